"""What the port `Buckets` guarantees, over the buckets of one process and over those that replicas share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import pytest
import pytest_asyncio

from broker.adapters.memory.buckets import MemoryBuckets
from broker.core.gcra import ALLOWED, MICROSECONDS, Charge, Decision, charge
from broker.core.models import Window
from broker.ports import Buckets
from tests.contract.limits import emptied, microseconds, opened
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PostgresServer

HOUR = 3600 * MICROSECONDS
"""The emission interval of these buckets: the time a test takes is nothing to it."""


class Kit(Protocol):
    """Buckets under test, and their time."""

    buckets: Buckets

    async def advance(self, microseconds: int) -> None:
        """Let time pass, as far as the buckets can tell."""


class MemoryKit:
    """Those of one process."""

    def __init__(self) -> None:
        self._ahead = 0
        self.buckets: Buckets = MemoryBuckets(lambda: microseconds() + self._ahead)

    async def advance(self, microseconds: int) -> None:
        self._ahead += microseconds


@dataclass
class SharedKit:
    """Those of PostgreSQL."""

    buckets: Buckets
    server: PostgresServer
    database: str

    async def advance(self, microseconds: int) -> None:
        move = f"UPDATE limit_bucket SET tat = tat - {microseconds}"  # noqa: S608 - a number
        await asyncio.to_thread(self.server.execute, move, self.database)


@pytest_asyncio.fixture(loop_scope="session", params=("memory", "postgres", "pgbouncer"))
async def kit(request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """Empty buckets."""
    if request.param == "memory":
        yield MemoryKit()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    database: str = request.getfixturevalue("migrated")
    url = server.url(database)
    if request.param == "pgbouncer":
        bouncer: PgBouncer = request.getfixturevalue("pgbouncer")
        url = bouncer.url(database)
    emptied(server, database)
    async with opened(url) as buckets:
        yield SharedKit(buckets, server, database)


def one(key: str, burst: int = 3, cost: int = 1, limit: str = "l1") -> Charge:
    """Charge a bucket of 1/h."""
    return charge(limit, (limit, "0", key), Window(Fraction(1, 3600), burst), cost)


async def spent(buckets: Buckets, *requests: Sequence[Charge]) -> list[bool]:
    """Spend one request after another; return which were allowed."""
    return [(await buckets.spend(charges)).allowed for charges in requests]


async def test_a_bucket_lets_its_burst_through_and_then_its_rate(kit: Kit) -> None:
    """The burst at once; the next is told by its limit to wait for one interval, and passes after it."""
    assert [True, True, True] == await spent(kit.buckets, *[[one("a")]] * 3)
    refused = await kit.buckets.spend([one("a")])
    assert refused.retry_after is not None
    waits = 0 <= HOUR - refused.retry_after < MICROSECONDS * 60
    assert (False, "l1", True) == (refused.allowed, refused.limit, waits)
    await kit.advance(HOUR)
    assert [True, False] == await spent(kit.buckets, *[[one("a")]] * 2)


async def test_a_request_is_spent_whole_or_not_at_all(kit: Kit) -> None:
    """Over keys and windows alike: where one bucket is full, all others keep what they have."""
    wide, narrow = one("a", burst=5), replace(one("a", burst=1), bucket=("l1", "1", "a"), limit="narrow")
    assert [True, False] == await spent(kit.buckets, *[[wide, narrow]] * 2)
    assert [False] * 5 == await spent(kit.buckets, *[[one("b", burst=5), narrow, wide]] * 5)
    assert [True] * 5 + [False] == await spent(kit.buckets, *[[one("b", burst=5)]] * 6)
    assert [True] * 4 + [False] == await spent(kit.buckets, *[[wide]] * 5)


async def test_of_several_refusals_the_longest_wait_is_told(kit: Kit) -> None:
    """The limit told is the one to wait longest for."""
    two, six = one("a", burst=2, cost=2, limit="two"), one("a", burst=6, cost=6, limit="six")
    assert [True, True] == await spent(kit.buckets, [two], [six])
    for request in ([two, six], [six, two]):
        assert "six" == (await kit.buckets.spend(request)).limit


async def test_a_cost_above_the_burst_is_refused_for_good(kit: Kit) -> None:
    """No waiting helps, which is said at once; nothing is spent, of other buckets neither."""
    never = Decision(allowed=False, limit="l1", retry_after=None)
    assert never == await kit.buckets.spend([one("a", burst=1), one("b", cost=4)])
    assert never == await kit.buckets.spend([one("a", burst=3)] * 4)
    assert [True] == await spent(kit.buckets, [one("a", burst=1)])


async def test_a_bucket_named_twice_in_a_request_is_charged_twice(kit: Kit) -> None:
    """Both charges count, and both are given back where they do not fit."""
    assert [True, False, True, False] == await spent(
        kit.buckets, [one("a")] * 2, [one("a")] * 2, [one("a")], [one("a")]
    )


async def test_requests_at_one_moment_share_what_there_is(kit: Kit) -> None:
    """Of many that come together exactly as many pass as one after another would; other buckets are not touched."""
    decisions = await asyncio.gather(*(kit.buckets.spend([one("a", burst=20), one(f"k{n}")]) for n in range(50)))
    assert 20 == sum(decision.allowed for decision in decisions)
    assert [True] * 3 == await spent(kit.buckets, *[[one("k49")]] * 3)


async def test_a_clock_that_steps_back_costs_one_burst_at_most(kit: Kit) -> None:
    """A bucket spent in what is the future now is full: no credit, and no more than its own time to wait."""
    assert [True] == await spent(kit.buckets, [one("a")])
    await kit.advance(-1000 * HOUR)
    refused = await kit.buckets.spend([one("a")])
    assert refused.retry_after is not None
    assert (False, True) == (refused.allowed, refused.retry_after <= HOUR)
    await kit.advance(HOUR)
    assert [True, False] == await spent(kit.buckets, *[[one("a")]] * 2)


async def test_an_older_rule_spends_nothing(kit: Kit) -> None:
    """A charge of an older rule than the bucket's is told the newer one, and nothing of its request is spent."""
    assert [True] == await spent(kit.buckets, [replace(one("a"), version=7)])
    told = await kit.buckets.spend([one("b", burst=1), replace(one("a"), version=6)])
    assert Decision(allowed=False, limit="l1", newer_rule=7) == told
    assert [True, True, True] == await spent(kit.buckets, [one("b", burst=1)], *[[replace(one("a"), version=7)]] * 2)


async def test_under_a_newer_rule_what_was_used_stays_used(kit: Kit) -> None:
    """Two units used are two of the new rule's, however long those take; the old rule is refused from then on."""
    assert [True, True] == await spent(kit.buckets, *[[one("a")]] * 2)
    newer = charge("l1", ("l1", "0", "a"), Window(Fraction(1, 60), 4), version=1)
    assert [True, True, False] == await spent(kit.buckets, *[[newer]] * 3)
    assert 1 == (await kit.buckets.spend([one("a")])).newer_rule
    await kit.advance(60 * MICROSECONDS)
    assert [True, False] == await spent(kit.buckets, *[[newer]] * 2)


async def test_a_refusal_under_a_newer_rule_ends_the_older_one(kit: Kit) -> None:
    """The first charge of a newer rule brings the bucket under it, though it be refused."""
    assert [True] * 3 == await spent(kit.buckets, *[[one("a")]] * 3)
    newer = replace(one("a"), version=1)
    assert [False] == await spent(kit.buckets, [newer])
    assert 1 == (await kit.buckets.spend([one("a")])).newer_rule


@pytest.mark.parametrize(
    "keys",
    [
        ('"', "\\", '\\"', "{a,b}", "", "NULL", "ä", "'", "a b"),
        tuple("x" * 5000 + end for end in "ab"),
    ],
)
async def test_no_two_keys_are_one_bucket(kit: Kit, keys: tuple[str, ...]) -> None:
    """Whatever is in a key, and however long it is, it is a bucket of its own."""
    charges = [one(key, burst=1) for key in keys]
    assert [True] * len(keys) == await spent(kit.buckets, *([one] for one in charges))
    assert [False] * len(keys) == await spent(kit.buckets, *([one] for one in charges))


async def test_nothing_wanted_is_allowed(kit: Kit) -> None:
    """A request without charges is allowed."""
    assert ALLOWED == await kit.buckets.spend([])
