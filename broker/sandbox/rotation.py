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

    What is not `redeemable` is a reuse. `advance` gets the scopes that the grant keeps and
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


def is_reuse(state: State, presented: RefreshToken) -> bool:
    """Return whether presenting this token now is a reuse: it is spent, and the mode gives nothing more for it.

    That stays so when its family has ended, and past its life. A superseded token was ended by the sandbox itself:
    whoever presents it is refused, and has proved nothing.
    """
    return not presented.superseded and not RULES[state.behaviour.rotation].redeemable(state, presented)


def has_ended(state: State, refresh_token: RefreshToken) -> bool:
    """Return whether this token is over, spent or not: superseded, of an ended family, or past its life."""
    return refresh_token.superseded or refresh_token.family.revoked or refresh_token.expires_at <= state.now()


def is_live(state: State, refresh_token: RefreshToken) -> bool:
    """Return whether this token would be redeemed now."""
    return not has_ended(state, refresh_token) and not is_reuse(state, refresh_token)


def note_reuse(state: State, presented: RefreshToken) -> None:
    """Count a reuse, and end the family if reuse detection is on."""
    state.counters.reuses += 1
    if state.behaviour.reuse_detection and not presented.family.revoked:
        state.counters.families_ended += 1
        presented.family.revoked = True


def _unused(_state: State, presented: RefreshToken) -> bool:
    return presented.used_at is None


def _unused_or_in_grace(state: State, presented: RefreshToken) -> bool:
    return presented.used_at is None or state.now() < presented.used_at + state.behaviour.grace_seconds


def _always(_state: State, _presented: RefreshToken) -> bool:
    return True


def _give_new(state: State, presented: RefreshToken, kept: frozenset[str]) -> RefreshToken:
    """Give a new token at each use, beside those given before; the grace counts from the first use."""
    if presented.used_at is None:
        presented.used_at = state.now()
    successor = new_refresh_token(state, presented.family, kept)
    presented.successors.append(successor)
    return successor


def _give_same(state: State, presented: RefreshToken, kept: frozenset[str]) -> RefreshToken:
    """Give the token of the first use again, even where it is spent itself by now: its own grace decides then."""
    return presented.successors[-1] if presented.successors else _give_new(state, presented, kept)


def _give_last(state: State, presented: RefreshToken, kept: frozenset[str]) -> RefreshToken:
    """Give a new token at each use, and end those given before with all that descends from them.

    A server of this kind keeps one line of descent. Say A gave B, B gave C, and A is replayed in its grace: D takes
    the place of B. B and C are dead then, although C was live and B in a grace of its own; D alone is live, and A
    until its grace ends. B and C stay dead in every mode, and presenting them is no reuse: a client that lost the
    race for A did nothing wrong, and D must survive it. A replayed after its grace is a reuse, which ends them all.
    """
    for earlier in presented.successors:
        _supersede(earlier)
    return _give_new(state, presented, kept)


def _supersede(refresh_token: RefreshToken) -> None:
    pending = [refresh_token]
    while pending:
        ended = pending.pop()
        ended.superseded = True
        pending.extend(ended.successors)


def _keep(_state: State, presented: RefreshToken, kept: frozenset[str]) -> None:
    """Give none: the presented token stays good."""
    presented.scopes = kept


RULES: Mapping[RotationMode, RotationRule] = {
    RotationMode.ROTATE: RotationRule(_unused, _give_new),
    RotationMode.SAME: RotationRule(_unused_or_in_grace, _give_same),
    RotationMode.SIBLINGS: RotationRule(_unused_or_in_grace, _give_new),
    RotationMode.LAST_WINS: RotationRule(_unused_or_in_grace, _give_last),
    RotationMode.NONE: RotationRule(_always, _keep),
}
