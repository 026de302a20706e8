"""What is right and still deserves a look: rules shadowed, contradicted, about nothing there is; facts not proved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from broker.core.globs import is_glob, matches
from broker.core.models import NarrowingProfile, Policy, Provider, RoleBinding


def provider_warnings(providers: Iterable[Provider]) -> list[str]:
    """Return what providers are configured to do that nobody has seen them do."""
    return [
        f"provider/{provider.name}: that it narrows is not proved at its token endpoint, so refreshes are sent no "
        "scope: run `aries-broker admin providers prove-narrowing` on a throw-away grant"
        for provider in providers
        if provider.narrowing is NarrowingProfile.ADDITIONAL and not provider.narrows
    ]


def policy_warnings(policies: Sequence[Policy], roles: Sequence[RoleBinding], grants: Collection[str]) -> list[str]:
    """Return what the policies say in vain.

    Args:
        policies: all, once the change is made.
        roles: all role bindings then.
        grants: names of grants then, at least those that policies name in full.
    """
    ordered = sorted(policies, key=lambda policy: policy.name)
    return [
        *(text for policy in ordered for text in _shadows(policy, ordered)),
        *(text for policy in ordered for text in _roles(policy, roles)),
        *(text for policy in ordered for text in _grants(policy, grants)),
    ]


def _shadows(policy: Policy, policies: Iterable[Policy]) -> Iterator[str]:
    """Tell of the first policy that always decides in this one's place."""
    for other in policies:
        if other is not policy and _covers(other, policy) and (not policy.authorize or other.authorize):
            fewer = " and accepts less excess" if other.accept_excess < policy.accept_excess else ""
            yield f"policy/{policy.name}: never decides, policy/{other.name} allows all of it{fewer}"
            return


def _covers(other: Policy, policy: Policy) -> bool:
    outranks = other.accept_excess < policy.accept_excess or (
        other.accept_excess == policy.accept_excess and other.name < policy.name
    )
    return (
        outranks
        and other.scopes >= policy.scopes
        and _all_covered(other.callers, policy.callers)
        and _all_covered(other.grants, policy.grants)
    )


def _all_covered(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    return all(any(pattern == text or _matches(pattern, text) for pattern in wide) for text in narrow)


def _matches(pattern: str, text: str) -> bool:
    return not is_glob(text) and matches(pattern, text)


def _roles(policy: Policy, roles: Iterable[RoleBinding]) -> Iterator[str]:
    for caller in policy.callers:
        for binding in roles:
            if any(pattern == caller or _matches(pattern, caller) for pattern in binding.callers):
                yield f"policy/{policy.name}: {caller} holds the role {binding.role}, so no policy matches it"


def _grants(policy: Policy, grants: Collection[str]) -> Iterator[str]:
    for name in policy.grants:
        if not is_glob(name) and name not in grants:
            yield f"policy/{policy.name}: there is no grant {name!r} yet"
