"""A token just received or read back: what it really is, and its sealed form for the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from broker.core import scopes
from broker.core.errors import BrokerError, ScopeExceededError, ScopeNotGrantedError
from broker.core.models import GrantType
from broker.core.oauth.token_response import TokenResponse
from broker.core.sealing import access_token_binding
from broker.flows.token_cache import CachedToken
from broker.flows.wish import Wish, kills_older
from broker.ports import Cipher, Clock, SealBrokenError, StoredAccessToken

RENEWED_LIFE: Final = 30.0
"""Seconds a token must live when issued to be renewed ahead of its end; a shorter one is got anew when asked for."""
RENEW_POINT: Final = (0.6, 0.8)
"""Shares of its life between which a token's renewal begins."""


@dataclass(frozen=True, slots=True)
class Received:
    """What came of a redeem that landed.

    Attributes:
        token: the token under the key of what it has; None when even that is not clear.
        error: why it is not for whoever asked, when it carries less.
    """

    token: CachedToken | None
    error: BrokerError | None


class Receive:
    """Turns replies into cached tokens and back."""

    def __init__(self, cipher: Cipher, clock: Clock, random: Random) -> None:
        self._cipher = cipher
        self._clock = clock
        self._random = random

    def judge(self, wish: Wish, tokens: TokenResponse, attempt: int, started: float) -> Received:
        """Compare what was granted with what was asked and give the token its key.

        Args:
            wish: what was asked.
            tokens: the parsed reply.
            attempt: the attempt that got it.
            started: CLOCK_BOOTTIME seconds before the request was sent; its life counts from there.
        """
        verdict = scopes.judge(
            wish.asked,
            tokens.reply_scopes,
            tokens.unverified_claim_scopes,
            wish.grant_scopes,
            wish.provider.absent_scope,
            proved=narrowing_proved(wish),
            beside=scopes.asked_beside(wish.grant.type, wish.provider),
        )
        known = scopes.known_wire(wish.provider)
        error = _obstacle(verdict, known)
        if not (verdict.cacheable and verdict.granted <= known):
            return Received(None, error)  # words of a reply that nobody configured are kept nowhere
        has = wish.key if error is None else replace(wish.key, wire_scopes=tuple(sorted(verdict.granted)))
        # A refresh's attempts are the grant's, those of client credentials the key's: another key's would rank wrongly.
        ranked = wish.grant.type is GrantType.REFRESH_TOKEN or has == wish.key
        token = CachedToken(
            key=has,
            access_token=tokens.access_token,
            fingerprint=self._cipher.fingerprint(tokens.access_token),
            attempt=attempt if ranked else 0,
            granted=verdict.granted,
            verified=verdict.verified,
            life=tokens.expires_in,
            ends_at=started + tokens.expires_in,
            lifetime_assumed=tokens.lifetime_assumed,
            token_origin=wish.token_origin,
            renew_at=self._renew_at(tokens.expires_in, started) if error is None and not kills_older(wish) else None,
        )
        return Received(token, error)

    def _renew_at(self, life: float, started: float) -> float | None:
        """Return when the broker is to renew a token by itself: those got together are not renewed together."""
        return None if life < RENEWED_LIFE else started + life * self._random.uniform(*RENEW_POINT)

    async def seal(self, token: CachedToken) -> StoredAccessToken:
        """Return the token as the store keeps it, with what is left of its life now."""
        granted, life_ms = tuple(sorted(token.granted)), round(token.life * 1000)
        binding = access_token_binding(
            token.key,
            token.attempt,
            granted,
            verified=token.verified,
            life_ms=life_ms,
            token_origin=token.token_origin,
        )
        return StoredAccessToken(
            key=token.key,
            attempt=token.attempt,
            sealed=await self._cipher.seal(token.access_token, binding),
            fingerprint=token.fingerprint,
            granted=granted,
            verified=token.verified,
            life_ms=life_ms,
            **self._times_left(token),
            lifetime_assumed=token.lifetime_assumed,
        )

    def aged(self, stored: StoredAccessToken, token: CachedToken) -> StoredAccessToken:
        """Return a sealed token with what is left of its life now, for a write that had to be repeated."""
        return replace(stored, **self._times_left(token))

    def _times_left(self, token: CachedToken) -> dict[str, Any]:
        now = self._clock.boottime()
        renew_ms = None if token.renew_at is None else round((token.renew_at - now) * 1000)
        return {"remaining_ms": round(token.remaining(now) * 1000), "renew_ms": renew_ms}

    async def open(self, token_origin: str, stored: StoredAccessToken, read_at: float) -> CachedToken | None:
        """Return a stored token for use, or None when it was sealed for another endpoint or row.

        Args:
            token_origin: origin of the token endpoint that tokens may come from.
            stored: as read.
            read_at: CLOCK_BOOTTIME seconds before the statement that read it.
        """
        binding = access_token_binding(
            stored.key,
            stored.attempt,
            stored.granted,
            verified=stored.verified,
            life_ms=stored.life_ms,
            token_origin=token_origin,
        )
        try:
            access_token = await self._cipher.open(stored.sealed, binding)
        except SealBrokenError:
            return None
        return CachedToken(
            key=stored.key,
            access_token=access_token,
            fingerprint=self._cipher.fingerprint(access_token),
            attempt=stored.attempt,
            granted=frozenset(stored.granted),
            verified=stored.verified,
            life=stored.life_ms / 1000,
            ends_at=read_at + min(stored.remaining_ms, stored.life_ms) / 1000,
            lifetime_assumed=stored.lifetime_assumed,
            token_origin=token_origin,
            renew_at=None if stored.renew_ms is None else read_at + stored.renew_ms / 1000,
        )


def narrowing_proved(wish: Wish) -> bool:
    """Tell whether a proper subset of the grant's set may be called narrowed rather than unverified."""
    return wish.grant.type is GrantType.CLIENT_CREDENTIALS or wish.provider.narrows


def _obstacle(verdict: scopes.Verdict, known: frozenset[str]) -> BrokerError | None:
    """Return why no caller may have the token; whether a configured excess is accepted is each caller's policy."""
    try:
        scopes.accept(verdict, verdict.excess if verdict.excess <= known else frozenset(), known)
    except (ScopeExceededError, ScopeNotGrantedError) as error:
        return error
    return None
