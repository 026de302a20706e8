"""GetToken, from the caller's wish to a token in its hand.

pay the caller's bucket ▸ decide (policy, holds, scopes → one cache key) ▸ pay the grant's bucket
▸ the key's token, or wait until it is got ▸ decide again ▸ hold what was granted against what was asked
▸ audit event durable, which tells the store's version ▸ moved? decide again ▸ answer
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from random import Random
from typing import Final

from broker.core import scopes
from broker.core.audit import Action, AuditEvent
from broker.core.errors import (
    GrantConflictError,
    GrantUncertainError,
    LifetimeUnattainableError,
    OverloadedError,
    ProviderRefusedClientError,
    ProviderUnavailableError,
    RateLimitedError,
)
from broker.core.gcra import charge
from broker.core.models import LimitTarget, Narrowing, Window
from broker.core.secret import Secret
from broker.flows.catalog_view import CatalogView
from broker.flows.decide import Decide, Decided, TokenRequest
from broker.flows.limits import Limiter, spend
from broker.flows.obtain import Obtain
from broker.flows.receive import narrowing_proved
from broker.flows.token_cache import CachedToken, Need, TokenCache
from broker.flows.trail import Trail
from broker.flows.wish import Wish
from broker.ports import AuditSink, Buckets, Clock, RedeemTelemetry

ATTAINABLE: Final = 0.8
"""Share of a token's life that a caller may ask for at least."""

AFTER_RENEWAL: Final = (0.02, 0.1)
"""Shares of a token's life, after the broker begins to renew it, between which callers are to come back."""
LATEST: Final = 0.95
"""Share of what is left of a token after which nobody should come back only then."""

MAX_ROUNDS: Final = 4
"""How often a wish is decided anew because things moved while it waited."""

PROVIDER_AWAY: Final = (
    ProviderUnavailableError,
    ProviderRefusedClientError,
    RateLimitedError,
    GrantUncertainError,
    GrantConflictError,
    OverloadedError,
)
"""Why there is no new token, while the old one, as long as it lives, is still good."""

FORCED_WINDOW: Final = Window(rate=Fraction(1, 30), burst=1)
"""Redeems that a caller forces, with a high `min_lifetime` or a token it says the API refused: one per key, and one per
caller, in this window."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and what its reply says; `lifetime` and `renew_after` in seconds from now."""

    access_token: Secret
    scopes: tuple[str, ...]
    expires_at: datetime
    lifetime: float
    renew_after: float
    narrowing: Narrowing
    fingerprint: str
    grant: str
    lifetime_assumed: bool
    provider_scopes: tuple[str, ...]
    api_origins: tuple[str, ...]
    excess_scopes: tuple[str, ...]
    source: str


class GetToken:
    """The flow; one per process."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        decide: Decide,
        cache: TokenCache,
        obtain: Obtain,
        limiter: Limiter,
        buckets: Buckets,
        audit: AuditSink,
        clock: Clock,
        telemetry: RedeemTelemetry,
        handed_out: Callable[[CachedToken], None],
        random: Random,
    ) -> None:
        """Wire the flow; `buckets` are for what is forced, `handed_out` is told of each token a caller gets."""
        self._view = view
        self._decide = decide
        self._cache = cache
        self._obtain = obtain
        self._limiter = limiter
        self._buckets = buckets
        self._audit = audit
        self._clock = clock
        self._telemetry = telemetry
        self._handed_out = handed_out
        self._random = random

    async def __call__(self, request: TokenRequest, trail: Trail) -> IssuedToken:
        """Return a token that carries no more than was asked and policy accepts.

        Events of one request id belong together: where the store moved while the event was written and the wish is then
        denied, the denial follows its `token:issue` and the token was not handed out.

        Raises:
            BrokerError: why there is none.
        """
        await self._pay_as_caller(request)
        requested = scopes.parse_requested(request.scopes)
        trail.scopes = " ".join(requested)
        scopes.check_known(requested, self._view.catalog.providers.values())
        decided = await self._decide(request, requested, trail)
        await self._pay_for_grant(request, decided.wish)
        source = "memory"
        for _ in range(MAX_ROUNDS):
            token, fetched = await self._token(request, decided.wish, fresh=source == "provider")
            if token is None:
                source = fetched
                decided = await self._decide(request, requested, trail)
                continue
            issued = self._hand_out(decided, token, source)
            version = await self._audit.record(self._issue_event(trail, issued))
            if version > decided.version:  # the view may have moved on already, by another call or the poll
                await self._view.catch_up(version)
                before, decided = decided, await self._decide(request, requested, trail)
                if not decided.means_the_same(before):
                    continue
            self._telemetry.token_issued(source)
            self._handed_out(token)
            return issued
        raise GrantConflictError("the grant or its policies changed too often while the call ran; try again")

    # --- limits ------------------------------------------------------------------------------------------------------

    async def _pay_as_caller(self, request: TokenRequest) -> None:
        await self._limiter.spend(LimitTarget.GET_TOKEN, {"caller": str(request.caller)})

    async def _pay_for_grant(self, request: TokenRequest, wish: Wish) -> None:
        facts = {
            "caller": str(request.caller),
            "grant": wish.grant.name,
            "client": wish.client.name,
            "provider": wish.provider.name,
        }
        await self._limiter.spend(LimitTarget.GET_TOKEN, facts, charged_before=("caller",))

    async def _pay_for_force(self, request: TokenRequest, wish: Wish) -> None:
        """Pay for a redeem that others do not need; joining one that runs costs nothing."""
        if self._obtain.is_getting(wish):
            return
        name, key = "forced-redeem", wish.key
        by_key = (name, key.grant_id, str(key.epoch), key.client_id, " ".join(key.wire_scopes), key.resource)
        by_caller = (name, "caller", str(request.caller))
        try:
            await spend(self._buckets, [charge(name, bucket, FORCED_WINDOW) for bucket in (by_key, by_caller)])
        except RateLimitedError:
            if not self._obtain.is_getting(wish):  # another caller paid at the same moment
                raise

    # --- the token ---------------------------------------------------------------------------------------------------

    async def _token(self, request: TokenRequest, wish: Wish, *, fresh: bool) -> tuple[CachedToken | None, str]:
        """Return the key's token, or wait until it is got and return where from: the wish is then decided anew.

        A token got just now does even if it lives shorter than the default wants: there is no better one.
        """
        now = self._clock.boottime()
        token = self._held(wish, now)
        need = Need(request.min_lifetime, request.rejected_fingerprint)
        if token is None and need != Need():
            token = await self._obtain.stored(wish)  # what others have already need not be forced
        if token is not None:
            self._check_attainable(request.min_lifetime, token)
            if need.met_by(token, now):
                return token, ""
            if fresh:
                return self._best_there_is(request.min_lifetime, token, now), ""
        try:
            refusal = self._cache.refusal(wish.key, now)
            if refusal is not None:
                raise refusal
            if token is not None and Need().met_by(token, now):
                await self._pay_for_force(request, wish)
            return None, await self._obtain(wish, need)
        except PROVIDER_AWAY:
            held = self._held(wish, self._clock.boottime())
            if held is None or request.min_lifetime is not None or held.fingerprint == request.rejected_fingerprint:
                raise
            return held, ""  # to its end, since there is no other

    def _held(self, wish: Wish, now: float) -> CachedToken | None:
        return self._cache.find(wish.key, wish.token_origin, now, wish.least_attempt)

    def _check_attainable(self, min_lifetime: float | None, token: CachedToken) -> None:
        if min_lifetime is not None and min_lifetime > ATTAINABLE * token.life:
            raise LifetimeUnattainableError(
                "no token of this grant lives so long",
                metadata={"attainable_seconds": str(int(ATTAINABLE * token.life))},
            )

    def _best_there_is(self, min_lifetime: float | None, token: CachedToken, now: float) -> CachedToken:
        if min_lifetime is not None:
            raise LifetimeUnattainableError(
                "the provider gave no token that lives so long",
                metadata={"attainable_seconds": str(int(token.remaining(now)))},
            )
        return token

    # --- the answer --------------------------------------------------------------------------------------------------

    def _hand_out(self, decided: Decided, token: CachedToken, source: str) -> IssuedToken:
        wish = decided.wish
        verdict = scopes.judge(
            wish.asked,
            token.granted if token.verified else None,
            None,
            wish.grant_scopes,
            wish.provider.absent_scope,
            proved=narrowing_proved(wish),
        )
        scopes.accept(verdict, decided.accepted, decided.known)
        lifetime = token.remaining(self._clock.boottime())
        return IssuedToken(
            access_token=token.access_token,
            scopes=decided.requested,
            expires_at=datetime.fromtimestamp(self._clock.now() + lifetime, UTC),
            lifetime=lifetime,
            renew_after=self._renew_after(token, lifetime),
            narrowing=verdict.label,
            fingerprint=token.fingerprint,
            grant=wish.grant.name,
            lifetime_assumed=token.lifetime_assumed,
            provider_scopes=tuple(sorted(token.granted)),
            api_origins=wish.provider.api_origins,
            excess_scopes=tuple(sorted(verdict.excess)),
            source=source,
        )

    def _renew_after(self, token: CachedToken, lifetime: float) -> float:
        """Return when the caller should ask again: after the broker's own renewal, and no two callers together."""
        if token.renew_at is not None:
            renewed = token.renew_at - self._clock.boottime() + token.life * self._random.uniform(*AFTER_RENEWAL)
            if 0 < renewed < lifetime * LATEST:
                return renewed
        return lifetime * self._random.uniform(0.7, 0.9)

    def _issue_event(self, trail: Trail, issued: IssuedToken) -> AuditEvent:
        return trail.event(
            Action.TOKEN_ISSUE,
            self._clock.now(),
            granted=" ".join(issued.provider_scopes),
            excess=" ".join(issued.excess_scopes),
            narrowing=issued.narrowing.value,
            source=issued.source,
            fingerprint=issued.fingerprint,
        )
