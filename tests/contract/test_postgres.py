"""What is peculiar to PostgreSQL: connections that die, several processes, settings that would lose commits."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import StoreRefusedError, grant_row, migrate, refresh_tokens
from broker.adapters.sql.lanes import Lane
from broker.core import lease
from broker.core.errors import StoreUnavailableError
from broker.core.models import Kind
from broker.ports import LiveGrantError, ObjectChange
from tests.contract.backends import DATA_KEYS, EVENT, SEALED, OpenStore, open_sql
from tests.contract.test_redeem import consented_grant, sent
from tests.support.postgres import PostgresServer, running_postgres


async def test_two_processes_race_for_one_lease(postgres_url: str, open_store: OpenStore) -> None:
    """Two stores on one database: of many takers one wins, whichever store they came through."""
    stores = [await open_store(postgres_url, name) for name in "ab"]
    await stores[0].data_keys.add_first_data_keys(DATA_KEYS)
    grant_id = await consented_grant(stores[0])
    taken = await asyncio.gather(*(stores[n % 2].store.apply(grant_id, lease.Take(f"owner-{n}")) for n in range(8)))
    assert 1 == sum(state is not None for state in taken)


async def test_two_processes_see_each_others_configuration(postgres_url: str, open_store: OpenStore) -> None:
    """A version and a grant written through one store are read through the other."""
    one, other = [await open_store(postgres_url, name) for name in "ab"]
    await one.data_keys.add_first_data_keys(DATA_KEYS)
    grant_id = await consented_grant(one)
    seen = (await other.store.read_version(), await other.store.get_grant(grant_id))
    expected = (await one.store.read_version(), await one.store.get_grant(grant_id))
    assert expected == seen


async def test_a_backend_killed_before_commit_is_a_clean_failure(
    postgres: PostgresServer, postgres_url: str, open_store: OpenStore
) -> None:
    """The connection dies under a transaction: nothing is written, the cause is named, the next call works."""
    backend = await open_store(postgres_url)
    await backend.data_keys.add_first_data_keys(DATA_KEYS)

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE control SET version = 77"))
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await asyncio.to_thread(postgres.execute, f"SELECT pg_terminate_backend({pid})")

    with pytest.raises(StoreUnavailableError) as refused:
        await backend.database._lanes.write(work, lane=Lane.COMMIT)
    version = await backend.store.read_version()
    assert ("commit", 0) == (refused.value.cause, version)


async def test_all_connections_killed_between_calls_is_not_noticed(
    postgres: PostgresServer, postgres_url: str, open_store: OpenStore
) -> None:
    """Pooled connections that died while idle are replaced before they are used."""
    backend = await open_store(postgres_url)
    await backend.data_keys.add_first_data_keys(DATA_KEYS)
    grant_id = await consented_grant(backend)
    others = "pid <> pg_backend_pid() AND application_name = 'aries-broker'"
    await asyncio.to_thread(
        postgres.execute,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}",  # noqa: S608 - words of ours
    )
    taken = await backend.store.apply(grant_id, lease.Take("me"))
    assert taken is not None


async def test_a_removal_waits_for_the_token_that_lands(postgres_url: str, open_store: OpenStore) -> None:
    """A quarantined grant whose late token is being kept is not removed with it: the row is locked before the look."""
    backend = await open_store(postgres_url)
    await backend.data_keys.add_first_data_keys(DATA_KEYS)
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.Refused(state.attempt, state.generation, state.consent))
    go_on, keeps = asyncio.Event(), asyncio.Event()

    async def keep(connection: AsyncConnection) -> None:
        await grant_row.lock(connection, grant_id)
        await refresh_tokens.keep(connection, grant_id, refresh_tokens.kept("late", 1, 9, 9, SEALED))
        keeps.set()
        await go_on.wait()

    keeper = asyncio.create_task(backend.database._lanes.write(keep))
    await keeps.wait()
    change = ObjectChange(Kind.GRANT, grant_id.removeprefix("id-"), None)
    removal = asyncio.create_task(backend.store.write_objects([change], revision=None, event=EVENT))
    while not await backend.execute("SELECT 1 AS waits FROM pg_locks WHERE NOT granted AND locktype <> 'relation'"):
        assert not removal.done()
    go_on.set()
    await keeper
    with pytest.raises(LiveGrantError):
        await removal


async def test_a_database_that_hangs_is_given_up_within_a_second(postgres_url: str, open_store: OpenStore) -> None:
    """Reading the version ends within its second while somebody holds the table."""
    backend = await open_store(postgres_url)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(connection: AsyncConnection) -> None:
        await connection.execute(text("LOCK TABLE control IN ACCESS EXCLUSIVE MODE"))
        held.set()
        await go_on.wait()

    holder = asyncio.create_task(backend.database._lanes.write(hold))
    await held.wait()
    started = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailableError) as refused:
        await backend.store.read_version()
    took = asyncio.get_running_loop().time() - started
    go_on.set()
    await holder
    assert ("timeout", True) == (refused.value.cause, took < 2)


async def test_every_write_waits_for_the_disk(postgres: PostgresServer, migrated: str, open_store: OpenStore) -> None:
    """A role that turned synchronous commit off does not turn it off for the broker's commits."""
    postgres.execute("CREATE ROLE hasty SUPERUSER LOGIN")
    postgres.execute("ALTER ROLE hasty SET synchronous_commit = off")
    backend = await open_store(postgres.url(migrated).replace("broker@", "hasty@"))
    settings = []

    async def work(connection: AsyncConnection) -> None:
        settings.append((await connection.execute(text("SHOW synchronous_commit"))).scalar_one())

    for lane in Lane:
        await backend.database._lanes.write(work, lane=lane)
    assert ["on", "on"] == settings


async def test_a_server_that_does_not_sync_is_refused(tmp_path: Path) -> None:
    """`fsync=off` loses commits in a crash, so the broker does not start on it."""
    with running_postgres(settings=("fsync=off",)) as server:
        url = server.url(server.create_database())
        await migrate(url)
        with pytest.raises(StoreRefusedError, match="fsync"):
            await open_sql(url, tmp_path)


async def test_a_pool_too_small_for_the_lanes_is_refused(postgres_url: str, tmp_path: Path) -> None:
    """Fewer than four connections cannot keep the lanes apart."""
    with pytest.raises(StoreRefusedError, match="at least 4"):
        await open_sql(postgres_url, tmp_path, pool_size=3)


async def test_a_literal_name_is_looked_up_by_index(postgres_url: str, open_store: OpenStore) -> None:
    """Neither a literal name nor a prefix reads the whole table."""
    backend = await open_store(postgres_url)

    async def plan(connection: AsyncConnection, condition: str) -> str:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))  # the table is empty
        rows = await connection.execute(text(f"EXPLAIN SELECT name FROM grants WHERE {condition}"))  # noqa: S608 - ours
        return " ".join(rows.scalars())

    conditions = ("name IN ('a', 'b')", "name >= 'desk-' ORDER BY name LIMIT 5")
    plans = [await backend.database._lanes.write(partial(plan, condition=condition)) for condition in conditions]
    assert [True, True] == ["uq_grants_name" in plan for plan in plans]
