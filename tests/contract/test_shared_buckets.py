"""What is peculiar to buckets that replicas share: several of them at once, and a database that does not answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack, contextmanager
from fractions import Fraction
from itertools import count

import psycopg
import pytest

from broker.adapters.sql import migrate
from broker.adapters.sql.buckets import SharedBuckets
from broker.adapters.sql.limit_lane import PATIENCE
from broker.adapters.sql.limit_sweep import sweep_buckets
from broker.adapters.sql.limit_table import key_of
from broker.core.gcra import MICROSECONDS, Charge, charge
from broker.core.models import Window
from tests.contract.backends import open_sql
from tests.contract.limits import Told, emptied, opened
from tests.contract.test_buckets import one, spent
from tests.support.load import Admitted, offer, worst_excess
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.waiting import until

SOON = 2 * PATIENCE + 5
"""Within what an answer is to come; the rest is for a busy machine, and far less than a server that hangs costs."""


@pytest.fixture
def url(postgres: PostgresServer, migrated: str) -> str:
    """Return the URL of a database without buckets."""
    emptied(postgres, migrated)
    return postgres.url(migrated)


@pytest.fixture(scope="module")
def private() -> Iterator[tuple[PostgresServer, str]]:
    """Return a server of this module's own, to be paused and ended, and a migrated database."""
    with running_postgres() as server:
        name = server.create_database()
        with asyncio.Runner() as runner:
            runner.run(migrate(server.url(name)))
        yield server, name


async def timed(work: Awaitable[list[bool]]) -> list[bool]:
    """Return what comes, which is to be soon."""
    started = time.monotonic()
    result = await work
    assert time.monotonic() - started < SOON
    return result


async def test_replicas_share_what_there_is(url: str) -> None:
    """Two replicas admit together one burst, whichever of them is asked."""
    async with opened(url) as one_replica, opened(url) as other:
        first = await spent(one_replica, [one("a")], [one("a")])
        assert [True, True, True, False] == first + await spent(other, [one("a")], [one("a")])


async def test_many_keys_in_any_order_never_lock_each_other_out(url: str) -> None:
    """Replicas that spend the same keys in adverse orders, many at a time, are all answered by the store."""
    told, rng = Told(), random.Random(1)
    orders = [rng.sample(range(40), 30) for _ in range(60)]
    requests = [[one(f"k{key}", burst=1000) for key in order] for order in orders]
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(opened(url, told)) for _ in range(3)]
        allowed = await asyncio.gather(*(spent(replicas[n % 3], request) for n, request in enumerate(requests)))
    assert ([[True]] * 60, [], 0) == (allowed, told.causes, told.by_share)


async def test_a_limit_is_kept_and_used_by_replicas_that_want_ten_times_as_much(url: str) -> None:
    """In no span is more admitted than its rate and burst allow, and nearly all of it is used."""
    rate, burst, told = 200, 100, Told()
    window = Window(Fraction(rate), burst)
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(opened(url, told)) for _ in range(3)]
        admitted = await offer([replica.spend for replica in replicas], window, per_second=10 * rate, seconds=2.0)
    span = max(one.answered for one in admitted) - min(one.asked for one in admitted)
    assert worst_excess(admitted, rate, burst) <= 0
    assert len(admitted) >= 0.95 * rate * span
    assert [] == told.causes


def test_the_measure_sees_an_excess() -> None:
    """Of a limit of one a second, three at once are two too many."""
    at_once = [Admitted(0.0, 0.1)] * 3
    assert 1.8 < worst_excess(at_once, 1, 1) < 2


async def test_a_paused_database_leaves_the_replica_its_share(private: tuple[PostgresServer, str]) -> None:
    """While nothing answers, requests are decided soon, and all admitted keeps to the share of what was left.

    Three of nine are used; the share of one in three replicas is what a third of the limit has left of that: two. They
    are on the shared bucket once the database is back; so may be the request that nobody answered.
    """
    server, name = private
    told = Told()
    async with opened(server.url(name), told, replicas=3, connections=1, patience=PATIENCE) as buckets:
        assert [True] * 3 == await spent(buckets, *[[one("a", burst=9)]] * 3)
        with server.paused():
            during = await timed(spent(buckets, *[[one("a", burst=9)]] * 6))
            assert ([True] * 2 + [False] * 4, ["timeout"], 1, 6) == (during, told.causes, told.lanes, told.by_share)
        await until(lambda: told.lanes == 0)
        after = await spent(buckets, *[[one("a", burst=9)]] * 9)
    assert sum(after) in {9 - 3 - 2, 9 - 3 - 2 - 1}
    assert 1 == len(told.causes)


async def test_a_paused_database_lets_what_needs_more_than_the_share_wait(private: tuple[PostgresServer, str]) -> None:
    """A burst smaller than the number of replicas has no whole unit in a share: such a request is told to come back."""
    server, name = private
    told = Told()
    async with opened(server.url(name), told, replicas=3, connections=1, patience=PATIENCE) as buckets:
        with server.paused():
            refused = await buckets.spend([one("small", burst=2)])
        await until(lambda: told.lanes == 0)
        assert [True] == await spent(buckets, [one("small", burst=2)])
    assert (False, MICROSECONDS) == (refused.allowed, refused.retry_after)


async def test_a_database_that_restarts_is_come_back_to(private: tuple[PostgresServer, str]) -> None:
    """While it is down the share decides, and once it is up the database does."""
    server, name = private
    told = Told()
    async with opened(server.url(name), told, connections=1) as buckets:
        server.stop_at_once()
        try:
            assert [True] == await timed(spent(buckets, [one("r")]))
        finally:
            server.start_again()
        await until(lambda: told.lanes == 0)
        assert [True, True, False] == await spent(buckets, *[[one("r")]] * 3)
    assert ["connection"] == told.causes


async def test_a_database_that_is_not_there_at_the_start(private: tuple[PostgresServer, str]) -> None:
    """Buckets open all the same, and decide by their share."""
    server, _ = private
    told = Told()
    async with opened(server.url("nowhere"), told, replicas=2, connections=1) as buckets:
        assert [True, True, False] == await timed(spent(buckets, *[[one("n", burst=4)]] * 3))
    assert 1 == told.lanes


async def test_connections_that_died_while_idle_are_not_noticed(postgres: PostgresServer, url: str) -> None:
    """The next request is decided by the database, over a new connection."""
    told = Told()
    async with opened(url, told) as buckets:
        assert [True] == await spent(buckets, [one("a")])
        await asyncio.to_thread(
            postgres.execute,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aries-broker limits'",
        )
        assert [True, True, False] == await spent(buckets, *[[one("a")]] * 3)
    assert ([], 0) == (told.causes, told.by_share)


def _of_lane(buckets: SharedBuckets, lane: int) -> Charge:
    """Return a charge of this lane."""
    lanes = len(buckets._lanes)
    return next(found for n in count() if hash((found := one(f"k{n}")).bucket) % lanes == lane)


async def test_a_bucket_somebody_holds_cuts_off_its_own_lane_alone(url: str) -> None:
    """Others are decided by the database meanwhile; when it is let go, so is it."""
    told = Told()
    async with opened(url, told, patience=PATIENCE) as buckets:
        held, free = _of_lane(buckets, 0), _of_lane(buckets, 1)
        assert [True, True] == await spent(buckets, [held], [free])
        with _holding(url, held):
            assert [True] == await timed(spent(buckets, [held]))
            assert (["timeout"], 1) == (told.causes, told.by_share)
            assert [True, True, False] == await spent(buckets, *[[free]] * 3)
            assert 1 == told.by_share
        await until(lambda: told.lanes == 0)


@contextmanager
def _holding(url: str, charge: Charge) -> Iterator[None]:
    """Hold a bucket's row as a transaction does that does not end."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT FROM limit_bucket WHERE key = %s FOR UPDATE", [key_of(charge.bucket)])
        yield


async def test_a_caller_that_leaves_has_spent(url: str) -> None:
    """What it asked for is decided and spent all the same, and others waiting with it are answered."""
    async with opened(url, connections=1) as buckets:
        leaving = asyncio.create_task(buckets.spend([one("a")]))
        staying = asyncio.create_task(buckets.spend([one("a")]))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).allowed
        assert [True, False] == await spent(buckets, *[[one("a")]] * 2)


async def test_buckets_empty_for_an_hour_are_removed(
    postgres: PostgresServer, url: str, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Those in use or emptied lately stay, for a clock that steps back; one that somebody holds is passed over."""
    hour = 3600 * MICROSECONDS
    charges = {
        age: charge("l", ("l", age), Window(Fraction(1), 1)) for age in ("now", "lately", "held", "old", "older")
    }
    ages = {"now": 0, "lately": hour // 2, "held": 2 * hour, "old": 2 * hour, "older": 3 * hour}
    async with opened(url) as buckets:
        assert [True] * 5 == await spent(buckets, *([one] for one in charges.values()))
    for name, age in ages.items():
        where = f"WHERE key = '{key_of(charges[name].bucket)}'"
        postgres.execute(f"UPDATE limit_bucket SET tat = tat - {age} {where}", migrated)  # noqa: S608 - of ours
    backend = await open_sql(url, tmp_path_factory.mktemp("sweep"))
    with _holding(url, charges["held"]):
        assert 2 == await sweep_buckets(backend.database._lanes, most=1)
    await backend.aclose()
    left = {key for (key,) in postgres.execute("SELECT key FROM limit_bucket", migrated)}
    assert {key_of(charges[name].bucket) for name in ("now", "lately", "held")} == left
