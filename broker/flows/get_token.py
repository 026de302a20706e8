"""GetToken, from the caller's wish to a token in its hand.

pay the caller's bucket ▸ decide (policy, holds, scopes → one cache key) ▸ pay the grant's bucket
▸ the key's token, or wait until it is got ▸ decide again ▸ hold what was granted against what was asked
▸ audit event durable, which tells the store's version ▸ moved? decide again ▸ answer
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from random import Random
from typing import Final

from broker.core import policy, scopes
from broker.core.audit import Action, AuditEvent
from broker.core.errors import (
    GrantAmbiguousError,
    GrantConflictError,
    GrantHeldError,
    InvalidRequestError,
    LifetimeUnattainableError,
    PolicyDeniedError,
    RateLimitedError,
)
from broker.core.gcra import charge
from broker.core.grant_state import Hold
from broker.core.identity import CallerId, Role
from broker.core.models import LimitTarget, Narrowing, Policy, Window
from broker.core.secret import Secret
from broker.flows.catalog_view import CatalogView
from broker.flows.limits import charges_for, spend
from broker.flows.obtain import Obtain
from broker.flows.receive import narrowing_proved
from broker.flows.token_cache import CachedToken, TokenCache, least_life
from broker.flows.trail import Trail
from broker.flows.wish import Wish, wish_for
from broker.ports import AuditSink, Buckets, Clock, Telemetry

ATTAINABLE: Final = 0.8
"""Share of a token's life that a caller may ask for at least."""

MAX_ROUNDS: Final = 4
"""How often a wish is decided anew because things moved while it waited."""

MAX_DECISIONS: Final = 10_000
"""Decisions kept of one version; callers vary their requests as they like."""

MAX_NAMES: Final = 10
"""Grant names told to a caller that has to choose."""

FORCED_WINDOW: Final = Window(rate=Fraction(1, 30), burst=1)
"""Redeems that a caller forces with a high `min_lifetime`: one per key, and one per caller, in this window."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A caller's wish, fields as in the contract; `min_lifetime` in seconds, `grant` empty when left out."""

    caller: CallerId
    grant: str
    scopes: tuple[str, ...]
    min_lifetime: float | None
    resource: str


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


@dataclass(frozen=True, slots=True)
class Decided:
    """What policy allowed as of a version.

    Attributes:
        requested: the request's own words, sorted.
        policy: the one that covers them.
        wish: what they mean.
        accepted: wire scopes beyond those asked that the policy accepts.
        known: the provider's configured wire scopes.
    """

    version: int
    requested: tuple[str, ...]
    policy: Policy
    wish: Wish
    accepted: frozenset[str]
    known: frozenset[str]

    def means_the_same(self, other: Decided) -> bool:
        """Tell whether a token handed out on this decision may be handed out, with the same reply, on the other."""
        mine, its = self.wish, other.wish
        return (self.policy, mine.key, mine.client, mine.provider, mine.grant_scopes) == (
            other.policy,
            its.key,
            its.client,
            its.provider,
            its.grant_scopes,
        )


class GetToken:
    """The flow; one per process."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        cache: TokenCache,
        obtain: Obtain,
        buckets: Buckets,
        audit: AuditSink,
        clock: Clock,
        telemetry: Telemetry,
        random: Random,
    ) -> None:
        self._view = view
        self._cache = cache
        self._obtain = obtain
        self._buckets = buckets
        self._audit = audit
        self._clock = clock
        self._telemetry = telemetry
        self._random = random
        self._decided: dict[tuple[CallerId, str, tuple[str, ...], str], Decided] = {}
        self._decided_at = -1

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
            return issued
        raise GrantConflictError("the grant or its policies changed too often while the call ran; try again")

    # --- limits ------------------------------------------------------------------------------------------------------

    async def _pay_as_caller(self, request: TokenRequest) -> None:
        facts = {"caller": str(request.caller)}
        await spend(self._buckets, charges_for(self._view.catalog.limits, LimitTarget.GET_TOKEN, facts))

    async def _pay_for_grant(self, request: TokenRequest, wish: Wish) -> None:
        facts = {
            "caller": str(request.caller),
            "grant": wish.grant.name,
            "client": wish.client.name,
            "provider": wish.provider.name,
        }
        limits = self._view.catalog.limits
        await spend(self._buckets, charges_for(limits, LimitTarget.GET_TOKEN, facts, charged_before=("caller",)))

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

    # --- deciding ----------------------------------------------------------------------------------------------------

    async def _decide(self, request: TokenRequest, requested: tuple[str, ...], trail: Trail) -> Decided:
        """Return what this caller may have now, or raise; called anew after every wait.

        A decision stands as long as the version it was made at; what was refused is looked at again.
        """
        if self._decided_at != self._view.version or len(self._decided) >= MAX_DECISIONS:
            self._decided, self._decided_at = {}, self._view.version
        wanted = (request.caller, request.grant, requested, request.resource)
        decided = self._decided.get(wanted)
        if decided is None:
            decided = await self._decide_anew(request, requested, trail)
            if decided.version == self._decided_at:
                self._decided[wanted] = decided
        wish = decided.wish
        trail.grant, trail.client, trail.provider = wish.grant.name, wish.client.name, wish.provider.name
        trail.policy = decided.policy.name
        return decided

    async def _decide_anew(self, request: TokenRequest, requested: tuple[str, ...], trail: Trail) -> Decided:
        catalog = self._view.catalog
        roles = policy.roles_of(catalog.roles, request.caller)
        name = request.grant or await self._only_grant(request.caller, roles)
        trail.grant = name
        grant = await self._view.grant(name)
        client = None if grant is None else catalog.clients.get(grant.client)
        provider = None if client is None else catalog.providers.get(client.provider)
        decision = policy.decide(catalog.policies, request.caller, name, frozenset(requested), provider, roles=roles)
        if decision.policy is None or grant is None or client is None or provider is None:
            raise PolicyDeniedError("no policy allows this caller the grant and every scope asked for")
        trail.client, trail.provider, trail.policy = client.name, provider.name, decision.policy.name
        if request.resource and request.resource not in provider.resources:
            raise InvalidRequestError(
                "the provider is not configured for this resource",
                fields={"resource": "must be one of the provider's configured resources"},
            )
        asked = scopes.resolve(requested, provider)
        if provider.frozen or grant.state.hold is not Hold.NONE:
            raise GrantHeldError("the grant is held by operators")
        wish = wish_for(grant, client, provider, asked, request.resource, str(request.caller))
        accepted = scopes.accepted_excess(decision.policy.accept_excess, provider)
        return Decided(catalog.version, requested, decision.policy, wish, accepted, scopes.known_wire(provider))

    async def _only_grant(self, caller: CallerId, roles: frozenset[Role]) -> str:
        patterns = policy.grant_patterns(self._view.catalog.policies, caller, roles)
        names = await self._view.matching(patterns, MAX_NAMES) if patterns else ()
        if len(names) != 1:
            raise GrantAmbiguousError(
                "name a grant: policy leaves this caller several" if names else "name a grant",
                metadata={"grants": ",".join(names)},
                fields={"grant": "required unless policy leaves exactly one"},
            )
        return names[0]

    # --- the token ---------------------------------------------------------------------------------------------------

    async def _token(self, request: TokenRequest, wish: Wish, *, fresh: bool) -> tuple[CachedToken | None, str]:
        """Return the key's token, or wait until it is got and return where from: the wish is then decided anew.

        A token got just now does even if it lives shorter than the default wants: there is no better one.
        """
        now = self._clock.boottime()
        token = self._cache.find(wish.key, wish.token_origin, now)
        if token is not None:
            self._check_attainable(request.min_lifetime, token)
            if token.remaining(now) >= least_life(request.min_lifetime, token.life):
                return token, ""
            if fresh:
                return self._best_there_is(request.min_lifetime, token, now), ""
        refusal = self._cache.refusal(wish.key, now)
        if refusal is not None:
            raise refusal
        if token is not None and token.remaining(now) >= least_life(None, token.life):
            await self._pay_for_force(request, wish)
        return None, await self._obtain(wish, request.min_lifetime)

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
            renew_after=lifetime * self._random.uniform(0.7, 0.9),
            narrowing=verdict.label,
            fingerprint=token.fingerprint,
            grant=wish.grant.name,
            lifetime_assumed=token.lifetime_assumed,
            provider_scopes=tuple(sorted(token.granted)),
            api_origins=wish.provider.api_origins,
            excess_scopes=tuple(sorted(verdict.excess)),
            source=source,
        )

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
