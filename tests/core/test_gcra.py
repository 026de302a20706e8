from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.gcra import ALLOWED, MICROSECONDS, Bucket, BucketState, Charge, Decision, charge, spend
from broker.core.models import Window

HOUR = 3600 * MICROSECONDS
KEY = ("l1", "0", "key:reports")

windows = st.builds(
    Window,
    rate=st.fractions(min_value=Fraction(1, 3600), max_value=2_000_000, max_denominator=7919),
    burst=st.integers(1, 50),
)
arrivals = st.lists(st.tuples(st.integers(0, 3 * MICROSECONDS), st.integers(1, 3)), min_size=1, max_size=40)


def admitted(window: Window, wishes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (time, cost) of what one bucket admits, of wishes as (pause before, cost)."""
    now, states, passed = HOUR, dict[Bucket, BucketState](), list[tuple[int, int]]()
    for pause, cost in wishes:
        now += pause
        decision, advanced = spend(states, [charge("l", KEY, window, cost)], now)
        states |= advanced
        if decision.allowed:
            passed.append((now, cost))
    return passed


@given(windows, arrivals)
def test_no_span_admits_more_than_rate_times_length_plus_burst(window: Window, wishes: list[tuple[int, int]]) -> None:
    """Whatever arrives, between any two instants at most rate x length + burst units are admitted."""
    passed = admitted(window, wishes)
    for first, (start, _) in enumerate(passed):
        units = 0
        for end, cost in passed[first:]:
            units += cost
            assert units <= window.rate * Fraction(end - start, MICROSECONDS) + window.burst


@given(windows, st.integers(0, HOUR))
def test_an_idle_bucket_admits_its_burst_at_once_and_no_more(window: Window, now: int) -> None:
    """A bucket nobody used admits exactly its burst at one instant."""
    assert window.burst == len(admitted(window, [(now, 1)] + [(0, 1)] * (window.burst + 3)))


@given(windows, arrivals)
def test_who_waits_as_told_is_admitted(window: Window, wishes: list[tuple[int, int]]) -> None:
    """After `retry_after` of a refusal the same wish is admitted, a microsecond earlier it is not; None means never."""
    now, states = HOUR, dict[Bucket, BucketState]()
    for pause, cost in wishes:
        now += pause
        wanted = charge("l", KEY, window, cost)
        decision, advanced = spend(states, [wanted], now)
        if not decision.allowed and decision.retry_after is not None:
            assert False is spend(states, [wanted], now + decision.retry_after - 1)[0].allowed
            now += decision.retry_after
            decision, advanced = spend(states, [wanted], now)
            assert ALLOWED == decision
        assert decision.allowed or cost > window.burst
        states |= advanced


@pytest.mark.parametrize(
    ("rate", "interval"),
    [
        (Fraction(50), 20_000),
        (Fraction(3), 333_334),
        (Fraction(300_000), 4),
        (Fraction(2_000_000), 1),
        (Fraction(1, 60), 60_000_000),
    ],
)
def test_the_interval_rounds_up(rate: Fraction, interval: int) -> None:
    """An emission interval is whole microseconds, never shorter than the rate allows."""
    assert Charge("l", KEY, interval, interval * 5, 2) == charge("l", KEY, Window(rate, 5), 2)


@pytest.mark.parametrize("cost", [0, -1])
def test_a_charge_costs_something(cost: int) -> None:
    """A cost below 1 is a bug of the one who charges."""
    with pytest.raises(ValueError, match="at least 1"):
        charge("l", KEY, Window(Fraction(1), 1), cost)


def test_a_batch_is_spent_all_or_nothing_and_told_by_its_strictest_limit() -> None:
    """If one charge of a batch is refused nothing is spent; the answer is the longest wait, `never` above all."""
    free = Charge("free", ("a",), 10, 100)
    short = Charge("short", ("b",), 10, 10)
    long = Charge("long", ("c",), 50, 50)
    never = Charge("never", ("d",), 10, 10, 2)
    states: dict[Bucket, BucketState] = {("b",): BucketState(1010, 10), ("c",): BucketState(1050, 50)}
    assert (Decision(allowed=False, limit="short", retry_after=10), {}) == spend(states, [free, short], 1000)
    assert (Decision(allowed=False, limit="long", retry_after=50), {}) == spend(states, [long, short], 1000)
    assert (Decision(allowed=False, limit="long", retry_after=50), {}) == spend(states, [short, long], 1000)
    for batch in ([never, long], [long, never], [short, never, long]):
        assert (Decision(allowed=False, limit="never", retry_after=None), {}) == spend(states, batch, 1000)


def test_a_bucket_named_twice_is_charged_twice() -> None:
    """Two charges on one bucket in a batch are both spent."""
    one = Charge("l", KEY, 10, 30)
    assert (ALLOWED, {KEY: BucketState(1020, 10)}) == spend({}, [one, one], 1000)
    assert (
        Decision(allowed=False, limit="l", retry_after=10) == spend({KEY: BucketState(1020, 10)}, [one, one], 1000)[0]
    )


def test_a_clock_that_steps_back_costs_one_burst_at_most() -> None:
    """After the clock went back an hour a bucket is full, not denied for an hour, and gives no credit."""
    one = Charge("l", KEY, 10, 30)
    decision, states = spend({KEY: BucketState(1000 + HOUR, 10)}, [one], 1000)
    assert Decision(allowed=False, limit="l", retry_after=10) == decision
    assert ALLOWED == spend(states, [one], 1010)[0]


def test_a_bucket_charged_beyond_its_burst_in_one_request_never_lets_it_pass() -> None:
    """No waiting makes room for more than the burst, be it one charge or several of one request."""
    one = Charge("l", KEY, 10, 30)
    assert (Decision(allowed=False, limit="l", retry_after=None), {}) == spend({}, [one] * 4, 1000)


def test_an_older_rule_spends_nothing() -> None:
    """A charge of an older rule than the bucket's is told the newer one, whatever else refuses; nothing is spent."""
    states: dict[Bucket, BucketState] = {KEY: BucketState(0, 10, 7), ("full",): BucketState(1010, 10)}
    old, full, free = Charge("l", KEY, 10, 30, version=6), Charge("full", ("full",), 10, 10), Charge("f", ("f",), 1, 9)
    for request in ([old, full, free], [full, free, old]):
        told = Decision(allowed=False, limit="l", newer_rule=7)
        assert (told, {}) == spend(states, request, 1000)


@pytest.mark.parametrize("interval", [5, 40, 7])
def test_under_a_newer_rule_what_was_used_stays_used(interval: int) -> None:
    """Three units of an old rule are three of the new one, in whatever time they pass."""
    newer = Charge("l", KEY, interval, interval * 6, version=8)
    _, states = spend({KEY: BucketState(1030, 10, 7)}, [newer], 1000)
    assert {KEY: BucketState(1000 + 4 * interval, interval, 8)} == states


def test_a_refusal_under_a_newer_rule_leaves_the_bucket_under_it() -> None:
    """Who is refused by a newer rule has spent nothing, and from then on no older one spends either."""
    newer = Charge("l", KEY, 20, 40, version=8)
    decision, states = spend({KEY: BucketState(1030, 10, 7)}, [newer], 1000)
    assert Decision(allowed=False, limit="l", retry_after=20) == decision
    assert {KEY: BucketState(1040, 20, 8)} == states
    assert 8 == spend(states, [Charge("l", KEY, 10, 30, version=7)], 1000)[0].newer_rule


@given(windows, windows, st.integers(0, 50), st.integers(1, 50))
def test_no_unit_is_gained_by_a_change_of_the_rule(old: Window, new: Window, used: int, wanted: int) -> None:
    """After `used` units under one rule, the other admits at once no more than its burst less those."""
    spent = [charge("l", KEY, old, used)] if 0 < used <= old.burst else []
    states = spend({}, spent, HOUR)[1]
    decision, _ = spend(states, [charge("l", KEY, new, wanted, version=1)], HOUR)
    assert (wanted <= new.burst - (used if spent else 0)) == decision.allowed
