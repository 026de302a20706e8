"""The stores, one after another: memory, SQLite, PostgreSQL, PostgreSQL behind PgBouncer.

All tests here run in one event loop, so that most can share a store that is opened once and emptied before each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
from sqlalchemy import delete

from broker.adapters.sql import clock, migrate
from broker.adapters.sql.tables import metadata
from tests.contract.backends import DATA_KEYS, Backend, MemoryBackend, OpenStore, SqlBackend, open_sql
from tests.support.empty_database import put_empty_database
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PostgresServer

SQL = ("sqlite", "postgres", "pgbouncer")
FILLED = [table for table in reversed(metadata.sorted_tables) if table.name != "control"]
EMPTY = "; ".join((*(str(delete(table)) for table in FILLED), "UPDATE control SET version = 0, revision = 0"))
"""Makes a database as new, quicker than a new one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run this folder's tests in one event loop."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session", autouse=True)
def old_host() -> Iterator[None]:
    """Let the host have started long ago: tests push times into the past, and before the start is another boot."""
    ahead = 30 * 24 * 3600 * 10**9

    def gettime_ns(clock_id: int) -> int:
        return time.clock_gettime_ns(clock_id) + ahead

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "time", SimpleNamespace(clock_gettime_ns=gettime_ns, CLOCK_BOOTTIME=time.CLOCK_BOOTTIME))
        yield


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> str:
    """Return the name of a database with this version's tables."""
    name = postgres.create_database()
    with ThreadPoolExecutor(1) as thread:  # an event loop may be running in this one
        thread.submit(lambda: asyncio.run(migrate(postgres.url(name)))).result()
    return name


@pytest.fixture
def postgres_url(postgres: PostgresServer, migrated: str) -> str:
    """Return the URL of an empty store."""
    postgres.execute(EMPTY, migrated)
    return postgres.url(migrated)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=("memory", *SQL))
async def shared_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SqlBackend | None]:
    """Every store, open for all tests that do not break it; None for memory, where a new one costs nothing."""
    if request.param == "memory":
        yield None
        return
    opened = await open_sql(_url(request, request.param), tmp_path_factory.mktemp("data"))
    yield opened
    await opened.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def backend(shared_store: SqlBackend | None) -> Backend:
    """Every store, empty but for its data keys."""
    if shared_store is None:
        emptied: Backend = MemoryBackend()
    else:
        await shared_store.run_script(EMPTY)
        emptied = shared_store
    await emptied.data_keys.add_first_data_keys(DATA_KEYS)
    return emptied


@pytest_asyncio.fixture(loop_scope="session", params=SQL)
async def sql(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlBackend]:
    """Every store over SQL, opened for one test, which may do to it what it likes."""
    url = _url(request, request.param)
    if url is None:
        await asyncio.to_thread(put_empty_database, tmp_path / "data")
    opened = await open_sql(url, tmp_path / "data")
    if url is not None:
        await opened.run_script(EMPTY)
    await opened.data_keys.add_first_data_keys(DATA_KEYS)
    yield opened
    await opened.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def open_store(tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Open stores that are closed however the test ends: what stays open fails tests it has nothing to do with."""
    async with AsyncExitStack() as stack:

        async def open_one(url: str, name: str = "data") -> SqlBackend:
            return await stack.enter_async_context(aclosing(await open_sql(url, tmp_path / name)))

        yield open_one


def _url(request: pytest.FixtureRequest, name: str) -> str | None:
    if name == "sqlite":
        return None
    migrated_name: str = request.getfixturevalue("migrated")
    if name == "pgbouncer":
        bouncer: PgBouncer = request.getfixturevalue("pgbouncer")
        return bouncer.url(migrated_name)
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(migrated_name)
