from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.memory.buckets import MemoryBuckets
from broker.core.gcra import ALLOWED, MICROSECONDS, Charge, charge
from broker.core.models import Window

SECOND = MICROSECONDS


class Now:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.time = SECOND

    def __call__(self) -> int:
        return self.time


def one(key: str, limit: str = "l1") -> Charge:
    """Charge a bucket of 1/s, burst 2."""
    return charge("per-caller", (limit, "0", key), Window(Fraction(1), 2))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2 * SECOND)), max_size=60))
async def test_no_window_admits_more_than_its_rate_and_burst(wishes: list[tuple[str, int]]) -> None:
    """Per key, between any two instants at most rate x length + burst are admitted."""
    now = Now()
    buckets = MemoryBuckets(now, capacity=3)
    passed: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for key, pause in wishes:
        now.time += pause
        if (await buckets.spend([one(key)])).allowed:
            passed[key].append(now.time)
    for times in passed.values():
        for first, start in enumerate(times):
            for count, end in enumerate(times[first:], 1):
                assert count <= Fraction(end - start, SECOND) + 2


async def test_a_refused_batch_spends_nothing() -> None:
    """If one bucket of a batch is empty, the others keep what they have."""
    buckets = MemoryBuckets(Now())
    for _ in range(2):
        assert ALLOWED == await buckets.spend([one("a")])
    for _ in range(3):
        assert False is (await buckets.spend([one("b"), one("a")])).allowed
    assert ALLOWED == await buckets.spend([one("b"), one("b")])


async def test_idle_buckets_are_forgotten_first() -> None:
    """At capacity a new bucket takes the place of an idle one, though one in debt was used longer ago."""
    now = Now()
    buckets = MemoryBuckets(now, capacity=2)
    await buckets.spend([one("debtor"), one("debtor")])
    await buckets.spend([one("idle")])
    now.time += SECOND
    await buckets.spend([one("new")])
    assert 2 == len(buckets)
    await buckets.spend([one("debtor")])
    assert False is (await buckets.spend([one("debtor")])).allowed


async def test_the_number_of_buckets_is_bounded_per_limit() -> None:
    """A flood of keys on one limit keeps to the bound and forgets no bucket of another."""
    buckets = MemoryBuckets(Now(), capacity=10)
    await buckets.spend([one("a", "other"), one("a", "other")])
    for number in range(1000):
        assert (await buckets.spend([one(f"k{number}")])).allowed
    assert 11 == len(buckets)
    assert False is (await buckets.spend([one("a", "other")])).allowed


async def test_of_buckets_in_debt_the_least_recently_used_is_forgotten() -> None:
    """When all are in debt, the one used longest ago starts afresh; those used since keep their debt."""
    buckets = MemoryBuckets(Now(), capacity=2)
    for key in ("kept", "old", "kept", "new"):
        await buckets.spend([one(key)])
    assert False is (await buckets.spend([one("kept")])).allowed
    assert True is (await buckets.spend([one("old")])).allowed
