"""Access tokens in memory: bounded, least recently used first out, each counted down on CLOCK_BOOTTIME."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from broker.core.errors import BrokerError
from broker.core.models import AccessTokenKey
from broker.core.secret import Secret

MAX_TOKENS: Final = 10_000
END_MARGIN: Final = 5.0
"""Seconds before its end in which a token is no longer handed out (a fifth of a life under 25 s)."""

LEAST_LIFE: Final = 60.0
"""Seconds a token must still live when the caller does not say; a fifth of its life for shorter ones."""


def least_life(min_lifetime: float | None, life: float) -> float:
    """Return the seconds a token of this whole life must still have: as asked, else 60 s or a fifth of a short life."""
    return min(LEAST_LIFE, life / 5) if min_lifetime is None else min_lifetime


@dataclass(frozen=True, slots=True)
class CachedToken:
    """An access token in hand.

    Attributes:
        granted: wire scopes it really carries, sorted; verified: the provider stated them.
        life: seconds it lived when issued; ends_at: CLOCK_BOOTTIME seconds of its end.
        token_origin: origin of the token endpoint it came from; a re-pointed provider's tokens are not served.
        renew_at: CLOCK_BOOTTIME seconds from which the broker renews it by itself; None where it does not.
    """

    key: AccessTokenKey
    access_token: Secret
    fingerprint: str
    attempt: int
    granted: frozenset[str]
    verified: bool
    life: float
    ends_at: float
    lifetime_assumed: bool
    token_origin: str
    renew_at: float | None = None

    def remaining(self, boottime: float) -> float:
        """Return the seconds left, at least 0."""
        return max(0.0, self.ends_at - boottime)

    def usable(self, boottime: float) -> bool:
        """Tell whether it may still be handed out."""
        return self.remaining(boottime) > min(END_MARGIN, self.life / 5)


@dataclass(frozen=True, slots=True)
class Need:
    """What a token must be to do for whoever asks.

    Attributes:
        min_lifetime: seconds it must still live; None when nothing was said.
        unlike: fingerprint of the one that does not do, since the API refused it or it is to be renewed; or empty.
    """

    min_lifetime: float | None = None
    unlike: str = ""

    def met_by(self, token: CachedToken, boottime: float) -> bool:
        """Tell whether the token does."""
        return (
            token.usable(boottime)
            and token.fingerprint != self.unlike
            and token.remaining(boottime) >= least_life(self.min_lifetime, token.life)
        )


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: BrokerError
    until: float
    memory: float


class TokenCache:
    """Tokens by key, and refusals remembered for a while so that a refused set is not asked for again and again."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[AccessTokenKey, CachedToken] = OrderedDict()
        self._refusals: OrderedDict[AccessTokenKey, _Refusal] = OrderedDict()

    def find(
        self, key: AccessTokenKey, token_origin: str, boottime: float, least_attempt: int = 0
    ) -> CachedToken | None:
        """Return the usable token of exactly this key, or None; one of an earlier attempt is dead at its provider."""
        token = self._tokens.get(key)
        if token is None:
            return None
        if token.token_origin != token_origin or not token.usable(boottime) or token.attempt < least_attempt:
            del self._tokens[key]
            return None
        self._tokens.move_to_end(key)
        return token

    def put(self, token: CachedToken) -> None:
        """Keep the token unless one of a later attempt is there."""
        held = self._tokens.get(token.key)
        if held is not None and held.attempt > token.attempt:
            return
        self._refusals.pop(token.key, None)
        self._tokens[token.key] = token
        self._tokens.move_to_end(token.key)
        if len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)

    def refuse(self, key: AccessTokenKey, error: BrokerError, boottime: float, memory: float, longest: float) -> None:
        """Remember for `memory` seconds that the key was refused, each time in a row twice as long, up to `longest`."""
        before = self._refusals.get(key)
        if before is not None and boottime < before.until + before.memory:
            memory = max(memory, min(longest, 2 * before.memory))
        # A copy: the error itself holds the frames it came through, with all that stands in them.
        self._refusals[key] = _Refusal(error.again(), boottime + memory, memory)
        self._refusals.move_to_end(key)
        if len(self._refusals) > MAX_TOKENS:
            self._refusals.popitem(last=False)

    def refusal(self, key: AccessTokenKey, boottime: float) -> BrokerError | None:
        """Return the remembered refusal while it lasts."""
        refusal = self._refusals.get(key)
        return None if refusal is None or refusal.until <= boottime else refusal.error.again()
