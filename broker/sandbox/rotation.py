"""What a refresh does to the refresh token, one rule per rotation mode (RFC 9700 §4.14.2).

To add a mode: name it in `RotationMode`, write its two functions, enter it in `RULES`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.sandbox.behaviour import RotationMode
from broker.sandbox.state import Family, RefreshToken, State


@dataclass(frozen=True)
class RotationRule:
    """One mode: whether a presented token may still be redeemed, and what follows it.

    `redeemable` refuses reuse; the family then dies. `advance` gets the scopes that the grant keeps and
    returns the token to hand out, or None where the reply names none and the presented one stays good.
    """

    redeemable: Callable[[State, RefreshToken], bool]
    advance: Callable[[State, RefreshToken, frozenset[str]], RefreshToken | None]


def new_refresh_token(
    state: State,
    family: Family,
    scopes: frozenset[str],
    lifetime_seconds: int | None = None,
) -> RefreshToken:
    """Return a new refresh token of this family, remembered."""
    lifetime = state.behaviour.refresh_token_seconds if lifetime_seconds is None else lifetime_seconds
    refresh_token = RefreshToken(
        token=state.config.refresh_token_prefix + secrets.token_urlsafe(32),
        family=family,
        scopes=scopes,
        expires_at=state.now() + lifetime,
    )
    state.refresh_tokens[refresh_token.token] = refresh_token
    return refresh_token


def _unused(_state: State, presented: RefreshToken) -> bool:
    return presented.used_at is None


def _unused_or_in_grace(state: State, presented: RefreshToken) -> bool:
    return presented.used_at is None or state.now() < presented.used_at + state.behaviour.grace_seconds


def _always(_state: State, _presented: RefreshToken) -> bool:
    return True


def _replace(state: State, presented: RefreshToken, kept: frozenset[str]) -> RefreshToken:
    presented.used_at = state.now()
    presented.successor = new_refresh_token(state, presented.family, kept)
    return presented.successor


def _replace_once(state: State, presented: RefreshToken, kept: frozenset[str]) -> RefreshToken:
    return presented.successor or _replace(state, presented, kept)


def _keep(_state: State, presented: RefreshToken, kept: frozenset[str]) -> None:
    presented.scopes = kept


RULES: Mapping[RotationMode, RotationRule] = {
    RotationMode.ROTATE: RotationRule(_unused, _replace),
    RotationMode.GRACE: RotationRule(_unused_or_in_grace, _replace_once),
    RotationMode.NONE: RotationRule(_always, _keep),
}
