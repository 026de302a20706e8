"""What a caller may have, as of a version: policy, holds, scopes, one cache key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.core import policy, scopes
from broker.core.errors import GrantAmbiguousError, GrantHeldError, InvalidRequestError, PolicyDeniedError
from broker.core.grant_state import Hold, held_because
from broker.core.identity import CallerId, Role
from broker.core.models import Policy
from broker.flows.catalog_view import CatalogView
from broker.flows.trail import Trail
from broker.flows.wish import Wish, wish_for

MAX_DECISIONS: Final = 10_000
"""Decisions kept of one version; callers vary their requests as they like."""

MAX_NAMES: Final = 10
"""Grant names told to a caller that has to choose."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A caller's wish, fields as in the contract; `min_lifetime` in seconds, `grant` empty when left out.

    Attributes:
        rejected_fingerprint: of the token that the API refused, or empty.
    """

    caller: CallerId
    grant: str
    scopes: tuple[str, ...]
    min_lifetime: float | None
    resource: str
    rejected_fingerprint: str = ""


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
        return (self.policy, mine.key, mine.least_attempt, mine.client, mine.provider, mine.grant_scopes) == (
            other.policy,
            its.key,
            its.least_attempt,
            its.client,
            its.provider,
            its.grant_scopes,
        )


class Decide:
    """Decides, and remembers decisions as long as the version they were made at."""

    def __init__(self, view: CatalogView) -> None:
        self._view = view
        self._decided: dict[tuple[CallerId, str, tuple[str, ...], str], Decided] = {}
        self._decided_at = -1

    async def __call__(self, request: TokenRequest, requested: tuple[str, ...], trail: Trail) -> Decided:
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
            if grant.state.hold is Hold.NONE:
                raise GrantHeldError("the grant's provider is frozen", cause="provider_frozen")
            raise GrantHeldError(held_because(grant.state), cause=str(grant.state.hold))
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
