"""What is right and still deserves a look: rules shadowed, contradicted, about nothing there is; facts not proved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from broker.core.globs import is_glob
from broker.core.identity import Role
from broker.core.models import NarrowingProfile, Policy, Provider, RoleBinding
from broker.core.pattern_index import Allowance, PatternIndex, TooMuchError, in_both

STEPS: Final = 500_000
"""Half a second's work, during which nobody else is answered; ordinary configurations take a few steps a pattern."""
_WORDS: Final = 32
"""Scopes of two policies that are compared in about a step."""


def provider_warnings(providers: Iterable[Provider]) -> list[str]:
    """Return what providers are configured to do that nobody has seen them do."""
    return [
        f"provider/{provider.name}: that it narrows is not proved at its token endpoint, so refreshes are sent no "
        "scope: run `aries-broker admin providers prove-narrowing` on a throw-away grant"
        for provider in providers
        if provider.narrowing is NarrowingProfile.ADDITIONAL and not provider.narrows
    ]


def policy_warnings(
    policies: Sequence[Policy], roles: Sequence[RoleBinding], grants: AbstractSet[str], *, steps: int = STEPS
) -> list[str]:
    """Return what the policies say in vain.

    Args:
        policies: all, once the change is made.
        roles: all role bindings then.
        grants: names of grants then, at least those that policies name in full.
        steps: how many are taken to find the policies that never decide, and as many for the callers with a role.
    """
    ordered = sorted(policies, key=lambda policy: policy.name)
    shadows, holders = _Shadows(ordered, Allowance(steps)), _Holders(roles, Allowance(steps))
    return [
        *_as_far_as_allowed(ordered, shadows, "another policy allows all of it"),
        *_as_far_as_allowed(ordered, holders, "a caller of it holds a role"),
        *(text for policy in ordered for text in _grants(policy, grants)),
    ]


def _as_far_as_allowed(
    policies: Iterable[Policy], look: Callable[[Policy], Iterable[str]], whether: str
) -> Iterator[str]:
    for policy in policies:
        try:
            yield from look(policy)
        except TooMuchError:
            yield f"policy/{policy.name}: here and further on it was not looked whether {whether}: too many are alike"
            return


class _Shadows:
    """Tells of the first policy that always decides in another's place."""

    def __init__(self, policies: Sequence[Policy], allowance: Allowance) -> None:
        self._policies = policies
        self._allowance = allowance
        self._callers = PatternIndex([policy.callers for policy in policies], allowance)
        self._grants = PatternIndex([policy.grants for policy in policies], allowance)

    def __call__(self, policy: Policy) -> Iterator[str]:
        callers, grants = self._callers.fewest_owners(policy.callers), self._grants.fewest_owners(policy.grants)
        for number in in_both(callers, grants, self._allowance):
            self._allowance.spend(1 + (len(policy.scopes) + len(policy.accept_excess)) // _WORDS)
            other = self._policies[number]
            if (
                _outranks(other, policy)
                and self._callers.covers(number, policy.callers)
                and self._grants.covers(number, policy.grants)
            ):
                fewer = " and accepts less excess" if other.accept_excess < policy.accept_excess else ""
                yield f"policy/{policy.name}: never decides, policy/{other.name} allows all of it{fewer}"
                return


def _outranks(other: Policy, policy: Policy) -> bool:
    """Tell whether the other decides wherever both name the caller and the grant."""
    first = other.accept_excess < policy.accept_excess or (
        other.accept_excess == policy.accept_excess and other.name < policy.name
    )
    return first and other.scopes >= policy.scopes and (other.authorize or not policy.authorize)


class _Holders:
    """Tells of callers that hold a role."""

    def __init__(self, bindings: Iterable[RoleBinding], allowance: Allowance) -> None:
        callers: dict[Role, list[str]] = {role: [] for role in Role}
        for binding in bindings:
            callers[binding.role] += binding.callers
        self._roles = tuple(callers)
        self._index = PatternIndex(tuple(callers.values()), allowance)

    def __call__(self, policy: Policy) -> Iterator[str]:
        for caller in policy.callers:
            for number in sorted(set().union(*self._index.owners(caller))):
                yield f"policy/{policy.name}: {caller} holds the role {self._roles[number]}, so no policy matches it"


def _grants(policy: Policy, grants: AbstractSet[str]) -> Iterator[str]:
    for name in policy.grants:
        if not is_glob(name) and name not in grants:
            yield f"policy/{policy.name}: there is no grant {name!r} yet"
