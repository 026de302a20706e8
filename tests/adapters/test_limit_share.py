from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.sql.limit_share import Debts, Share
from broker.core.gcra import MICROSECONDS, BucketState, Charge, Decision, charge, spend
from broker.core.models import Window

KEY = ("l1", "0", "key:reports")
SECOND = MICROSECONDS

windows = st.builds(
    Window, rate=st.fractions(min_value=Fraction(1, 60), max_value=100, max_denominator=60), burst=st.integers(1, 40)
)
pauses = st.lists(st.integers(0, 2 * SECOND), min_size=1, max_size=40)


class Now:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.time = 3600 * SECOND

    def __call__(self) -> int:
        return self.time


def one(burst: int = 9, version: int = 0) -> Charge:
    """Charge a bucket of 1/s."""
    return charge("per-caller", KEY, Window(Fraction(1), burst), version=version)


@given(windows, pauses, st.integers(1, 7))
def test_no_span_admits_more_than_the_share(window: Window, pauses: list[int], replicas: int) -> None:
    """Between any two instants at most 1/replicas of rate x length + burst."""
    now = Now()
    share, passed = Share(replicas, now), list[int]()
    for pause in pauses:
        now.time += pause
        if share.spend([charge("l", KEY, window)]).allowed:
            passed.append(now.time)
    for first, start in enumerate(passed):
        for units, end in enumerate(passed[first:], 1):
            assert units <= (window.rate * Fraction(end - start, SECOND) + window.burst) / replicas


@given(windows, pauses)
def test_debts_are_what_the_shared_bucket_would_hold(window: Window, pauses: list[int]) -> None:
    """What is owed moves a bucket that nobody else used to where spending there would have brought it."""
    now = Now()
    debts, states = Debts(now), dict[tuple[str, ...], BucketState]()
    for pause in pauses:
        now.time += pause
        decision, moved = spend(states, [charge("l", KEY, window)], now.time)
        states |= moved
        if decision.allowed:
            debts.owe(charge("l", KEY, window))
    expected = states[KEY].tat - now.time
    assert ([expected] if expected > 0 else []) == [state.tat for _, state in debts.take()]


def test_the_share_starts_from_what_was_known() -> None:
    """Of nine three are used: a third of what is left is two."""
    now = Now()
    share = Share(3, now)
    share.learn(one(), 3 * SECOND, 0)
    assert [True, True, False] == [share.spend([one()]).allowed for _ in range(3)]


def test_a_share_that_was_used_does_not_come_back_with_the_store() -> None:
    """Whoever is cut off again at once has of the share what was left of it, though the shared bucket has room."""
    share = Share(3, Now())
    assert [True, True, True, False] == [share.spend([one()]).allowed for _ in range(4)]
    share.learn(one(), 3 * SECOND, 0)
    assert [False] == [share.spend([one()]).allowed]


def test_what_is_more_than_the_share_has_to_wait_for_the_store() -> None:
    """A cost above the share's burst is not refused for good: the whole limit may let it through."""
    refused = Share(3, Now()).spend([one(burst=2)])
    assert Decision(allowed=False, limit="per-caller", retry_after=SECOND) == refused


def test_an_older_rule_than_was_learnt_spends_nothing() -> None:
    """The share knows the rule's version as the store told it."""
    share = Share(3, Now())
    share.learn(one(version=7), 0, 7)
    assert 7 == share.spend([one(version=6)]).newer_rule


def test_debts_that_did_not_arrive_are_owed_again() -> None:
    """With what came to be owed meanwhile."""
    now = Now()
    debts = Debts(now)
    debts.owe(one())
    taken = debts.take()
    debts.owe(one())
    debts.owe_again(taken)
    assert [(KEY, BucketState(2 * SECOND, SECOND))] == debts.take()
    assert (False, []) == (bool(debts), debts.take())


def test_debts_pass() -> None:
    """What the limit's rate has let go since is owed no more."""
    now = Now()
    debts = Debts(now)
    debts.owe(one())
    now.time += SECOND
    assert [] == debts.take()
