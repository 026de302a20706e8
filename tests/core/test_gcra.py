from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.gcra import ALLOWED, MICROSECONDS, Charge, Decision, charge, spend
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
    now, tats, passed = HOUR, dict[tuple[str, ...], int](), list[tuple[int, int]]()
    for pause, cost in wishes:
        now += pause
        decision, advanced = spend(tats, [charge("l", KEY, window, cost)], now)
        tats |= advanced
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
    now, tats = HOUR, dict[tuple[str, ...], int]()
    for pause, cost in wishes:
        now += pause
        wanted = charge("l", KEY, window, cost)
        decision, advanced = spend(tats, [wanted], now)
        if not decision.allowed and decision.retry_after is not None:
            assert False is spend(tats, [wanted], now + decision.retry_after - 1)[0].allowed
            now += decision.retry_after
            decision, advanced = spend(tats, [wanted], now)
            assert ALLOWED == decision
        assert decision.allowed or cost > window.burst
        tats |= advanced


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
    tats: dict[tuple[str, ...], int] = {("b",): 1010, ("c",): 1050}
    assert (Decision(allowed=False, limit="short", retry_after=10), {}) == spend(tats, [free, short], 1000)
    assert (Decision(allowed=False, limit="long", retry_after=50), {}) == spend(tats, [long, short], 1000)
    assert (Decision(allowed=False, limit="long", retry_after=50), {}) == spend(tats, [short, long], 1000)
    for batch in ([never, long], [long, never], [short, never, long]):
        assert (Decision(allowed=False, limit="never", retry_after=None), {}) == spend(tats, batch, 1000)


def test_a_bucket_named_twice_is_charged_twice() -> None:
    """Two charges on one bucket in a batch are both spent."""
    one = Charge("l", KEY, 10, 30)
    assert (ALLOWED, {KEY: 1020}) == spend({}, [one, one], 1000)
    assert False is spend({}, [one] * 4, 1000)[0].allowed


def test_a_clock_that_steps_back_costs_one_burst_at_most() -> None:
    """After the clock went back an hour a bucket is full, not denied for an hour, and gives no credit."""
    one = Charge("l", KEY, 10, 30)
    decision, _ = spend({KEY: 1000 + HOUR}, [one], 1000)
    assert Decision(allowed=False, limit="l", retry_after=10) == decision
