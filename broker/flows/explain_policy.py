"""Saying what GetToken would decide, by the same decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.core import policy, scopes
from broker.core.audit import Action
from broker.core.errors import BrokerError, InvalidRequestError, Reason
from broker.core.grant_state import Hold
from broker.core.identity import CallerId, is_subject
from broker.core.models import Catalog, Grant, Provider
from broker.flows.trail import Trail
from broker.flows.wish import wish_for
from broker.ports import AuditSink, CatalogStore, Clock, GrantStore

MAX_NAMES = 10
"""Grants named to whoever asks why one has to be chosen."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be decided.

    Attributes:
        policy: the winning policy's name, empty when there is none.
        reason: the reason's name, empty when allowed.
        considered: every policy and what became of it, or the grants to choose from.
    """

    allowed: bool
    policy: str
    reason: str
    considered: tuple[str, ...]


class ExplainPolicy:
    """Explain one request."""

    def __init__(self, *, catalogs: CatalogStore, grants: GrantStore, audit: AuditSink, clock: Clock) -> None:
        self._catalogs = catalogs
        self._grants = grants
        self._audit = audit
        self._clock = clock

    async def __call__(self, caller: str, grant_name: str, wanted: Sequence[str], trail: Trail) -> Explanation:
        """Explain what a caller would be told who asks for the scopes of a grant, `grant_name` empty when left out.

        Limits are not spent and the provider is not asked.

        Raises:
            InvalidRequestError: no caller id, or scopes GetToken would not even look at.
            StoreUnavailableError: the store is away.
        """
        asking = _parse_caller(caller)
        requested = scopes.parse_requested(wanted)
        trail.scopes = " ".join(requested)
        await self._audit.record(trail.event(Action.ADMIN_READ, self._clock.now(), detail="policy"))
        catalog = await self._catalogs.load_catalog()
        scopes.check_known(requested, catalog.providers.values())
        roles = policy.roles_of(catalog.roles, asking)
        name = grant_name
        if not name:
            patterns = policy.grant_patterns(catalog.policies, asking, roles)
            names = await self._grants.match_grants(patterns, MAX_NAMES) if patterns else ()
            if len(names) != 1:
                choices = tuple(f"grant {choice}" for choice in names)
                return Explanation(allowed=False, policy="", reason=Reason.GRANT_AMBIGUOUS, considered=choices)
            name = names[0]
        grant = await self._grants.find_grant(name)
        client = None if grant is None else catalog.clients.get(grant.client)
        provider = None if client is None else catalog.providers.get(client.provider)
        decision = policy.decide(catalog.policies, asking, name, frozenset(requested), provider, roles=roles)
        considered = tuple(f"{item.name}: {item.why}" for item in decision.considered)
        if decision.policy is None or grant is None or provider is None:
            return Explanation(allowed=False, policy="", reason=Reason.POLICY_DENIED, considered=considered)
        reason = _obstacle(catalog, grant, provider, requested)
        return Explanation(not reason, decision.policy.name, reason, considered)


def _obstacle(catalog: Catalog, grant: Grant, provider: Provider, requested: Sequence[str]) -> str:
    """Return the reason why a request that policy allows fails before the provider is asked; empty when none."""
    try:
        asked = scopes.resolve(requested, provider)
        if provider.frozen or grant.state.hold is not Hold.NONE:
            return Reason.GRANT_HELD
        wish_for(grant, catalog.clients[grant.client], provider, asked)
    except BrokerError as error:
        return error.reason
    return ""


def _parse_caller(text: str) -> CallerId:
    kind, _, subject = text.partition(":")
    if not kind or not is_subject(subject):
        problem = "a kind, a colon and a subject, such as key:reports"
        raise InvalidRequestError(f"the caller is {problem}", fields={"caller": problem})
    return CallerId(kind, subject)
