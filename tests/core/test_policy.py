"""Policy: one must cover the whole request, and the explanation is the enforcement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.identity import CallerId, Role
from broker.core.models import Policy, Provider
from broker.core.policy import Considered, Why, decide, grant_patterns, may_authorize, roles_of, who_may_use
from tests.core.values import policy, provider, role

REPORTS = CallerId("key", "reports")
NO_ROLES: frozenset[Role] = frozenset()

CALLERS = ["key:reports", "key:*", "key:orders", "k8s:**"]
GRANTS = ["desk-service", "desk-*", "other"]
SCOPES = ["read", "trade", "withdraw", "account:information", "order:execution"]

POLICIES = st.lists(
    st.builds(
        policy,
        st.sampled_from("abcdef"),
        callers=st.lists(st.sampled_from(CALLERS), min_size=1, max_size=2),
        grants=st.lists(st.sampled_from(GRANTS), min_size=1, max_size=2),
        scopes=st.lists(st.sampled_from(SCOPES), max_size=3),
        accept_excess=st.lists(st.sampled_from(["read", "trade"]), max_size=2),
    ),
    unique_by=lambda drawn: drawn.name,
    max_size=6,
)
REQUESTS = st.frozensets(st.sampled_from(SCOPES), min_size=1, max_size=3)


def chosen(policies: list[Policy], requested: frozenset[str], grant: str = "desk-service") -> str | None:
    """Return the name of the policy chosen for `key:reports`."""
    decision = decide(policies, REPORTS, grant, requested, provider(), roles=NO_ROLES)
    return decision.policy.name if decision.policy else None


@pytest.mark.parametrize(
    ("made", "requested", "expected"),
    [
        (policy("p"), {"read"}, Why.CHOSEN),
        (policy("p", scopes=["read", "trade"]), {"read"}, Why.CHOSEN),
        (policy("p", grants=["desk-*"]), {"read"}, Why.CHOSEN),
        (policy("p"), {"account:information"}, Why.CHOSEN),
        (policy("p", scopes=["account:information"]), {"account:information"}, Why.CHOSEN),
        (policy("p", scopes=["account:information"]), {"read"}, Why.SCOPES),
        (policy("p", scopes=["account:information", "order:information"]), {"read"}, Why.SCOPES),
        (policy("p"), {"read", "trade"}, Why.SCOPES),
        (policy("p"), {"order:execution"}, Why.SCOPES),
        (policy("p"), set(), Why.SCOPES),
        (policy("p", scopes=[]), {"read"}, Why.SCOPES),
        (policy("p", callers=["key:orders"]), {"read"}, Why.CALLER),
        (policy("p", callers=[]), {"read"}, Why.CALLER),
        (policy("p", callers=["spiffe:reports"]), {"read"}, Why.CALLER),
        (policy("p", grants=["desk-service2"]), {"read"}, Why.GRANT),
        (policy("p", grants=[]), {"read"}, Why.GRANT),
        (policy("p", callers=["key:orders"], grants=["other"], scopes=[]), {"read"}, Why.CALLER),
    ],
)
def test_one_policy(made: Policy, requested: set[str], expected: Why) -> None:
    """A policy covers a request when it names the caller, the grant and every scope."""
    decision = decide([made], REPORTS, "desk-service", frozenset(requested), provider(), roles=NO_ROLES)
    assert (Considered("p", expected),) == decision.considered
    assert (made if expected is Why.CHOSEN else None) == decision.policy


def test_policies_are_not_combined() -> None:
    """Two policies that allow a half each do not allow the whole."""
    halves = [policy("a", scopes=["read"]), policy("b", scopes=["trade"])]
    assert chosen(halves, frozenset({"read", "trade"})) is None


def test_a_wire_scope_with_a_product_scopes_name_is_not_lent() -> None:
    """A policy that allows `read` does not allow `trade` by way of a wire scope of that name."""
    muddled = provider({"read": ["trade"], "trade": ["trade"]})
    decision = decide([policy("p")], REPORTS, "desk-service", frozenset({"trade"}), muddled, roles=NO_ROLES)
    assert decision.policy is None


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([policy("b"), policy("a")], "a"),
        ([policy("a", accept_excess=["trade"]), policy("b")], "b"),
        ([policy("a", accept_excess=["read", "trade"]), policy("b", accept_excess=["trade"])], "b"),
        ([policy("b", accept_excess=["withdraw"]), policy("a", accept_excess=["admin"])], "a"),
    ],
)
def test_of_several_that_cover_the_least_excess_then_the_name(policies: list[Policy], expected: str) -> None:
    """The policy that accepts least beyond the request is chosen, then the first by name."""
    assert expected == chosen(policies, frozenset({"read"}))


def test_the_explanation_names_every_policy() -> None:
    """What was considered is told in order of name, with what became of each."""
    policies = [policy("c"), policy("b", callers=["key:x"]), policy("a", scopes=["trade"]), policy("d")]
    decision = decide(policies, REPORTS, "desk-service", frozenset({"read"}), provider(), roles=NO_ROLES)
    expected = [("a", Why.SCOPES), ("b", Why.CALLER), ("c", Why.CHOSEN), ("d", Why.OUTRANKED)]
    assert expected == [(item.name, item.why) for item in decision.considered]


def test_a_caller_with_a_role_matches_no_policy() -> None:
    """Who may administer the broker gets no tokens from it."""
    decision = decide(
        [policy("p")], REPORTS, "desk-service", frozenset({"read"}), provider(), roles=frozenset({Role.AUDITOR})
    )
    assert (None, (Considered("p", Why.ROLE),)) == (decision.policy, decision.considered)


def test_an_unknown_grant_is_denied_like_any_other() -> None:
    """A grant that does not exist is covered by no policy, though patterns match its name."""
    decision = decide([policy("p")], REPORTS, "desk-service", frozenset({"read"}), None, roles=NO_ROLES)
    assert (None, (Considered("p", Why.NO_GRANT),)) == (decision.policy, decision.considered)


@given(POLICIES, REQUESTS)
def test_an_unknown_grant_has_every_policy_looked_at(policies: list[Policy], requested: frozenset[str]) -> None:
    """The work for an unknown grant is the work for a known one: the same policies, each in full."""
    known = decide(policies, REPORTS, "desk-service", requested, provider(), roles=NO_ROLES)
    unknown = decide(policies, REPORTS, "desk-service", requested, None, roles=NO_ROLES)
    assert [item.name for item in known.considered] == [item.name for item in unknown.considered]
    assert unknown.policy is None


@given(POLICIES, POLICIES, REQUESTS)
def test_adding_policies_never_narrows(policies: list[Policy], more: list[Policy], requested: frozenset[str]) -> None:
    """What is allowed stays allowed whatever policies are added."""
    added = policies + [extra for extra in more if extra.name not in {held.name for held in policies}]
    assert chosen(policies, requested) is None or chosen(added, requested) is not None


@given(POLICIES, REQUESTS)
def test_no_union(policies: list[Policy], requested: frozenset[str]) -> None:
    """A request is allowed exactly when one policy alone allows it."""
    alone = any(chosen([single], requested) is not None for single in policies)
    assert alone == (chosen(policies, requested) is not None)


@given(POLICIES.flatmap(lambda policies: st.tuples(st.just(policies), st.permutations(policies))), REQUESTS)
def test_order_is_ignored(drawn: tuple[list[Policy], list[Policy]], requested: frozenset[str]) -> None:
    """The decision and its explanation do not depend on the order of the policies."""
    first, second = (
        decide(policies, REPORTS, "desk-service", requested, provider(), roles=NO_ROLES) for policies in drawn
    )
    assert first == second


@given(POLICIES, REQUESTS)
def test_the_explanation_is_the_enforcement(policies: list[Policy], requested: frozenset[str]) -> None:
    """Exactly the chosen policy is explained as chosen, and only a denied request has none."""
    decision = decide(policies, REPORTS, "desk-service", requested, provider(), roles=NO_ROLES)
    told = [item.name for item in decision.considered if item.why is Why.CHOSEN]
    assert told == ([decision.policy.name] if decision.policy else [])


@given(POLICIES, REQUESTS)
def test_a_smaller_request_is_allowed_too(policies: list[Policy], requested: frozenset[str]) -> None:
    """Asking for less is never denied where asking for more is allowed."""
    if chosen(policies, requested) is not None:
        assert None not in [chosen(policies, frozenset({scope})) for scope in requested]


@pytest.mark.parametrize(
    ("policies", "requested", "expected"),
    [
        ([policy("p", authorize=True)], {"read"}, "p"),
        ([policy("p", authorize=True)], {"account:information"}, "p"),
        ([policy("p", grants=["other", "desk-service"], authorize=True)], {"read"}, "p"),
        ([policy("b", authorize=True), policy("a", accept_excess=["trade"], authorize=True)], {"read"}, "a"),
        ([policy("a"), policy("b", authorize=True)], {"read"}, "b"),
        ([policy("p")], {"read"}, None),
        ([policy("p", authorize=True)], {"read", "trade"}, None),
        ([policy("a", authorize=True), policy("b", scopes=["trade"], authorize=True)], {"read", "trade"}, None),
        ([policy("a", authorize=True), policy("b", scopes=["read", "trade"])], {"read", "trade"}, None),
        ([policy("p", scopes=["account:information"], authorize=True)], {"read"}, None),
        ([policy("p", authorize=True)], set(), None),
        ([policy("p", callers=["key:orders"], authorize=True)], {"read"}, None),
        ([policy("p", grants=["other"], authorize=True)], {"read"}, None),
        ([policy("p", grants=["desk-*"], authorize=True)], {"read"}, None),
        ([policy("p", grants=["**"], authorize=True)], {"read"}, None),
        ([policy("p", grants=["desk-*", "other"], authorize=True)], {"read"}, None),
    ],
)
def test_who_may_have_a_person_log_in(policies: list[Policy], requested: set[str], expected: str | None) -> None:
    """The first policy by name that says so, of this caller, of this grant by its name, and of every scope."""
    found = may_authorize(policies, REPORTS, "desk-service", frozenset(requested), provider(), roles=NO_ROLES)
    assert expected == (found.name if found else None)


def test_a_caller_with_a_role_has_nobody_log_in_by_policy() -> None:
    """What a role allows is not asked of policies."""
    allowed = [policy("p", authorize=True)]
    held = frozenset({Role.AUDITOR})
    assert may_authorize(allowed, REPORTS, "desk-service", frozenset({"read"}), provider(), roles=held) is None


class CountedPatterns(tuple[str, ...]):
    """Patterns that count how often they are gone through."""

    __slots__ = ()
    looks = 0

    def __iter__(self) -> Iterator[str]:
        type(self).looks += 1
        return super().__iter__()


def test_for_a_grant_that_is_not_there_nobody_logs_in_with_the_same_work() -> None:
    """Every policy is looked at in full, whether there is a grant or not."""

    def looks(there: Provider | None) -> int:
        CountedPatterns.looks = 0
        policies = [
            replace(policy(name, authorize=True), callers=CountedPatterns(callers), grants=CountedPatterns(grants))
            for name, callers, grants in (("a", ["key:orders"], ["x"]), ("b", ["key:reports"], ["desk-service"]))
        ]
        found = may_authorize(policies, REPORTS, "desk-service", frozenset({"read"}), there, roles=NO_ROLES)
        assert (there is None) == (found is None)
        return CountedPatterns.looks

    assert 4 == looks(provider()) == looks(None)


def test_who_may_use_a_grant() -> None:
    """Every policy whose patterns match it, by name, whatever else the policy says."""
    policies = [
        policy("d", grants=["other", "desk-service"], scopes=[]),
        policy("c", grants=["desk-*"], callers=["key:orders"]),
        policy("b", grants=["desk-service2", "desk"]),
        policy("a", grants=["**"], authorize=True),
        policy("e", grants=[]),
    ]
    assert ["a", "c", "d"] == [found.name for found in who_may_use(policies, "desk-service")]


def test_grant_patterns_are_those_of_the_callers_policies() -> None:
    """The grants a caller may leave out of a request are sought by the patterns of the policies that name it."""
    policies = [
        policy("a", grants=["desk-*", "spot"]),
        policy("b", grants=["spot", "cash"], scopes=[]),
        policy("c", callers=["key:orders"], grants=["secret-*"]),
    ]
    assert ("cash", "desk-*", "spot") == grant_patterns(policies, REPORTS, NO_ROLES)


def test_a_caller_with_a_role_has_no_grant_patterns() -> None:
    """A caller that holds a role is matched by no policy here either."""
    assert () == grant_patterns([policy("a")], REPORTS, frozenset({Role.ADMIN}))


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (CallerId("spiffe", "//corp.example/ns/ops/ann"), {Role.ROTATOR, Role.OPERATOR}),
        (CallerId("key", "root"), {Role.ADMIN}),
        (REPORTS, set()),
    ],
)
def test_roles_of(caller: CallerId, expected: set[Role]) -> None:
    """A caller holds every role whose binding names it."""
    bindings = [
        role(Role.ROTATOR, "spiffe://corp.example/ns/ops/*"),
        role(Role.OPERATOR, "key:nobody", "spiffe://corp.example/ns/ops/ann"),
        role(Role.ADMIN, "key:root"),
    ]
    assert expected == roles_of(bindings, caller)
