"""Policy: callers × grants × scopes, nothing allowed that no policy names.

One policy must cover the whole request. Policies are never combined, nothing is narrowed silently, and there are no
rules that deny. `decide` is both the enforcement and the explanation, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from broker.core.globs import matches, matches_caller
from broker.core.identity import CallerId, Role
from broker.core.models import Origin, Policy, Provider, RoleBinding, TokenEndpointAuth
from broker.core.scopes import PRODUCT_SCOPES, accepted_excess, expand


class Why(StrEnum):
    """What became of a policy, in the words of an explanation."""

    CHOSEN = "chosen"
    OUTRANKED = "covers the request; another that accepts less excess, or comes first by name, was chosen"
    ROLE = "no policy matches a caller that holds a role"
    CALLER = "does not name the caller"
    GRANT = "does not name the grant"
    SCOPES = "does not allow every scope"
    NO_GRANT = "covers the request; there is no such grant"


@dataclass(frozen=True, slots=True)
class Considered:
    """A policy that was looked at, by name, and what became of it."""

    name: str
    why: Why


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """The policy that covers the request, None when denied, and every policy considered, in order of name."""

    policy: Policy | None
    considered: tuple[Considered, ...]


_NO_PROVIDER: Final = Provider(
    id="",
    name="",
    origin=Origin.FILE,
    preset="",
    issuer="",
    token_url="",
    token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_BASIC,
    scopes={name: (name,) for name in PRODUCT_SCOPES},
)
"""Stands in for the provider of a grant that does not exist, so that its denial costs what any other costs."""


def decide(  # noqa: PLR0913 - everything a decision depends on
    policies: Iterable[Policy],
    caller: CallerId,
    grant: str,
    requested: frozenset[str],
    provider: Provider | None,
    *,
    roles: frozenset[Role],
) -> PolicyDecision:
    """Decide a request and say why.

    Args:
        policies: all of them, in any order; names are unique.
        caller: who asks.
        grant: the grant's name.
        requested: the scopes in the words of the request; not empty.
        provider: the grant's provider; None when there is no such grant, which denies with the same work.
        roles: the roles this caller holds, from `roles_of`; with any, no policy matches.
    """
    judged_by = provider or _NO_PROVIDER
    ordered = sorted(policies, key=lambda policy: policy.name)
    obstacles = [Why.ROLE if roles else _obstacle(policy, caller, grant, requested, judged_by) for policy in ordered]
    covering = [policy for policy, obstacle in zip(ordered, obstacles, strict=True) if obstacle is None]
    best = min(covering, key=lambda policy: _rank(policy, judged_by), default=None)
    chosen = None if provider is None else best
    covered = Why.NO_GRANT if provider is None else Why.OUTRANKED
    considered = tuple(
        Considered(policy.name, Why.CHOSEN if policy is chosen else obstacle or covered)
        for policy, obstacle in zip(ordered, obstacles, strict=True)
    )
    return PolicyDecision(chosen, considered)


def may_hold(
    policies: Iterable[Policy], caller: CallerId, grant: str, granted: frozenset[str], provider: Provider | None
) -> bool:
    """Tell whether some policy lets this caller, who holds no role, have a token of these wire scopes.

    Where the grant is gone, and its provider not known, its name alone decides.
    """
    return any(
        _any_matches_caller(policy.callers, caller)
        and any(matches(pattern, grant) for pattern in policy.grants)
        and (
            provider is None or granted <= _allowed(policy, provider) | accepted_excess(policy.accept_excess, provider)
        )
        for policy in policies
    )


def may_authorize(  # noqa: PLR0913 - everything a decision depends on
    policies: Iterable[Policy],
    caller: CallerId,
    grant: str,
    requested: frozenset[str],
    provider: Provider | None,
    *,
    roles: frozenset[Role],
) -> Policy | None:
    """Return the first policy by name that lets this caller have a person log in for the grant, or None.

    It says `authorize`, names the grant itself, not by a pattern, and allows every scope. None for a caller that holds
    a role; and where there is no grant, with the same work.
    """
    judged_by = provider or _NO_PROVIDER
    found = [
        policy
        for policy in sorted(policies, key=lambda policy: policy.name)
        if _obstacle(policy, caller, grant, requested, judged_by) is None
        and policy.authorize
        and grant in policy.grants
    ]
    return found[0] if found and provider is not None and not roles else None


def who_may_use(policies: Iterable[Policy], grant: str) -> tuple[Policy, ...]:
    """Return every policy that lets callers use the grant, in order of name."""
    named = (policy for policy in policies if any(matches(pattern, grant) for pattern in policy.grants))
    return tuple(sorted(named, key=lambda policy: policy.name))


def _obstacle(
    policy: Policy, caller: CallerId, grant: str, requested: frozenset[str], provider: Provider
) -> Why | None:
    """Return the first reason why the policy does not cover the request; all are looked at, whatever the first says."""
    obstacles = (
        (Why.CALLER, not _any_matches_caller(policy.callers, caller)),
        (Why.GRANT, not any(matches(pattern, grant) for pattern in policy.grants)),
        (Why.SCOPES, not (requested and requested <= _allowed(policy, provider))),
    )
    return next((why for why, stands in obstacles if stands), None)


def _allowed(policy: Policy, provider: Provider) -> frozenset[str]:
    """Return the words a request may hold: the policy's own, and the wire scopes its product scopes contain."""
    return policy.scopes | (expand(policy.scopes, provider) - PRODUCT_SCOPES)


def _rank(policy: Policy, provider: Provider) -> tuple[int, str]:
    return len(accepted_excess(policy.accept_excess, provider)), policy.name


def _any_matches_caller(patterns: Sequence[str], caller: CallerId) -> bool:
    return any(matches_caller(pattern, caller) for pattern in patterns)


def grant_patterns(policies: Iterable[Policy], caller: CallerId, roles: frozenset[Role]) -> tuple[str, ...]:
    """Return the grant patterns of every policy that names this caller, sorted; none for a caller with a role."""
    if roles:
        return ()
    matched = [policy.grants for policy in policies if _any_matches_caller(policy.callers, caller)]
    return tuple(sorted({pattern for patterns in matched for pattern in patterns}))


def roles_of(bindings: Iterable[RoleBinding], caller: CallerId) -> frozenset[Role]:
    """Return the roles this caller holds."""
    return frozenset(binding.role for binding in bindings if _any_matches_caller(binding.callers, caller))
