"""What policies say in vain: found as by comparing each with each, with far less work and never with endless work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.config_warnings import policy_warnings
from broker.core.globs import is_glob, matches
from broker.core.identity import Role
from broker.core.models import Origin, Policy, RoleBinding
from tests.support.work import calls_within


def policy(
    name: str,
    callers: Iterable[str],
    grants: Iterable[str],
    scopes: Iterable[str] = ("read",),
    excess: Iterable[str] = (),
    *,
    authorize: bool = False,
) -> Policy:
    """Return a policy."""
    return Policy(
        "", name, Origin.FILE, tuple(callers), tuple(grants), frozenset(scopes), frozenset(excess), authorize=authorize
    )


def role(name: str, held: Role, *callers: str) -> RoleBinding:
    """Return a role binding."""
    return RoleBinding("", name, Origin.FILE, held, callers)


# --- what is found ---------------------------------------------------------------------------------------------------


def naive(policies: Sequence[Policy], roles: Sequence[RoleBinding]) -> Iterator[str]:
    """Tell of shadows and roles by comparing each with each; the reference."""
    ordered = sorted(policies, key=lambda policy: policy.name)
    for one in ordered:
        if above := next((other for other in ordered if other is not one and shadows(other, one)), None):
            fewer = " and accepts less excess" if above.accept_excess < one.accept_excess else ""
            yield f"policy/{one.name}: never decides, policy/{above.name} allows all of it{fewer}"
    for one in ordered:
        for caller in one.callers:
            for held in Role:
                if any(binding.role is held and covered(binding.callers, [caller]) for binding in roles):
                    yield f"policy/{one.name}: {caller} holds the role {held}, so no policy matches it"


def shadows(other: Policy, one: Policy) -> bool:
    """Tell whether a policy decides wherever another one could."""
    outranks = other.accept_excess < one.accept_excess or (
        other.accept_excess == one.accept_excess and other.name < one.name
    )
    wide = other.scopes >= one.scopes and (other.authorize or not one.authorize)
    return outranks and wide and covered(other.callers, one.callers) and covered(other.grants, one.grants)


def covered(wide: Iterable[str], narrow: Iterable[str]) -> bool:
    """Tell whether each of some patterns is one of others, or a text that one of them matches."""
    return all(any(one == text or (not is_glob(text) and matches(one, text)) for one in wide) for text in narrow)


CALLERS = st.lists(
    st.sampled_from(["k:a", "k:b", "k:ab", "k:a*", "k:*b", "k:*", "k:**", "s:a"]), min_size=1, max_size=3
)
GRANTS = st.lists(st.sampled_from(["g", "ga", "h", "g*", "*a", "**"]), min_size=1, max_size=3)
WORDS = st.sets(st.sampled_from(["read", "trade"]), max_size=2)
POLICIES = st.lists(st.tuples(CALLERS, GRANTS, WORDS, WORDS, st.booleans()), max_size=8)
ROLES = st.lists(st.tuples(st.sampled_from(Role), CALLERS), max_size=4)


@given(POLICIES, ROLES)
def test_the_same_is_found_as_by_comparing_each_with_each(
    rows: list[tuple[list[str], list[str], set[str], set[str], bool]], bound: list[tuple[Role, list[str]]]
) -> None:
    """Every policy that never decides, with the first that decides in its place, and every caller with a role."""
    policies = [policy(f"p{number}", *row[:4], authorize=row[4]) for number, row in enumerate(rows)]
    roles = [role(f"r{number}", held, *callers) for number, (held, callers) in enumerate(bound)]
    grants = {name for one in policies for name in one.grants}
    assert list(naive(policies, roles)) == policy_warnings(policies, roles, grants)


# --- how much work it is ---------------------------------------------------------------------------------------------


Make = Callable[[int], list[Policy]]
"""Makes so many policies."""

ORDINARY: Final[Mapping[str, Make]] = {
    "each its own": lambda n: [policy(f"p{i}", [f"key:c{i}"], [f"g{i}"]) for i in range(n)],
    "one grant": lambda n: [policy(f"p{i}", [f"key:c{i}"], ["g"]) for i in range(n)],
    "one pattern of callers": lambda n: [policy(f"p{i}", ["spiffe://td/ns/a/*"], [f"g{i}"]) for i in range(n)],
    "every caller with every grant": lambda n: [policy(f"p{i}", [f"key:{i % 20}"], [f"g{i // 20}"]) for i in range(n)],
    "a pattern for each namespace": lambda n: [policy(f"p{i}", [f"spiffe://td/n{i}/*"], [f"g{i}-*"]) for i in range(n)],
    "one for all": lambda n: [
        policy("all", ["spiffe://td/**"], ["**"], ["trade"]),
        *(policy(f"p{i}", [f"spiffe://td/n{i}"], [f"g{i}"]) for i in range(n)),
    ],
}


@pytest.mark.parametrize("make", ORDINARY.values(), ids=ORDINARY)
def test_twice_as_many_ordinary_policies_take_twice_the_work(make: Make) -> None:
    """Policies with little in common are not compared."""

    def calls(count: int) -> int:
        policies = make(count)
        roles = [role(f"r{number}", Role.AUDITOR, f"key:ops-{number}-*") for number in range(count)]
        return calls_within(lambda: policy_warnings(policies, roles, set()))

    assert calls(400) < 2.5 * calls(200)


def _all_but(word: str, missing: int) -> list[str]:
    return [f"{word}{number}" for number in range(40) if number != missing]


def long_patterns(count: int) -> list[Policy]:
    """Return policies whose comparison is long."""
    globs, texts = "*/" * 200, "a/" * 200
    half = range(count // 2)
    return [
        *(policy(f"p{i}", [f"key:{globs}{i}"], [f"{globs}{i}"]) for i in half),
        *(policy(f"q{i}", [f"key:{texts}{i}-"], [f"{texts}{i}-"]) for i in half),
    ]


ALIKE: Final[Mapping[str, Make]] = {
    "but for their scopes": lambda n: [policy(f"p{i}", ["key:c"], ["g"], [f"s{i}"]) for i in range(n)],
    "but for one caller and one grant": lambda n: [
        policy(f"p{i}", _all_but("key:c", i % 40), _all_but("g", i // 40)) for i in range(n)
    ],
    "but for what stands between stars": lambda n: [
        *(policy(f"p{i}", [f"key:*{i}*"], [f"*{i}*"]) for i in range(n // 2)),
        *(policy(f"q{i}", [f"key:a{i}a"], [f"a{i}a"]) for i in range(n // 2)),
    ],
    "but for the end of long patterns": long_patterns,
}


@pytest.mark.parametrize("make", ALIKE.values(), ids=ALIKE)
def test_policies_that_are_alike_are_looked_at_as_far_as_allowed(make: Make) -> None:
    """The work ends, with a warning that says where."""
    found: list[str] = []
    policies = make(1_000)
    names = {name for one in policies for name in one.grants}
    patterns = sum(len(one.callers) + len(one.grants) for one in policies)

    calls = calls_within(lambda: found.extend(policy_warnings(policies, (), names, steps=5_000)))

    assert 1 == len(found)
    assert "here and further on it was not looked whether another policy allows all of it" in found[0]
    assert calls < 12 * (patterns + 5_000)


def test_callers_are_looked_for_among_the_roles_as_far_as_allowed() -> None:
    """Patterns of roles that tell little apart end the search, and nothing else with it."""
    found: list[str] = []
    policies = [policy(f"p{i:03}", [f"key:a{i}a"], [f"g{i}"]) for i in range(500)]
    roles = [role(f"r{i}", Role.AUDITOR, f"key:*{i}*") for i in range(500)]

    calls = calls_within(lambda: found.extend(policy_warnings(policies, roles, set(), steps=10_000)))

    (ended,) = [text for text in found if "here and further on" in text]
    assert "not looked whether a caller of it holds a role" in ended
    assert "policy/p499: there is no grant 'g499' yet" == found[-1]
    assert calls < 100_000


def test_two_bindings_of_a_role_are_told_once() -> None:
    """A caller that holds a role twice holds it."""
    roles = [role("a", Role.AUDITOR, "key:*s"), role("b", Role.AUDITOR, "key:eves", "key:eves")]
    assert ["policy/p: key:eves holds the role auditor, so no policy matches it"] == policy_warnings(
        [policy("p", ["key:eves"], ["g"])], roles, {"g"}
    )
