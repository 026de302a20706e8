"""The stores, one after another: memory, SQLite, PostgreSQL, PostgreSQL behind PgBouncer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete

from broker.adapters.sql import migrate
from broker.adapters.sql.tables import metadata
from tests.contract.backends import DATA_KEYS, Backend, MemoryBackend, SqlBackend, open_sql
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PostgresServer

SQL = ("sqlite", "postgres", "pgbouncer")
FILLED = [table for table in reversed(metadata.sorted_tables) if table.name != "control"]
EMPTY = "; ".join([*(str(delete(table)) for table in FILLED), "UPDATE control SET version = 0, revision = 0"])
"""Makes a database as new, quicker than a new one."""


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> str:
    """Return the name of a database with this version's tables; emptied before each test."""
    name = postgres.create_database()
    with ThreadPoolExecutor(1) as thread:  # an event loop may be running in this one
        thread.submit(lambda: asyncio.run(migrate(postgres.url(name)))).result()
    return name


@pytest.fixture
def postgres_url(postgres: PostgresServer, migrated: str) -> str:
    """Return the URL of an empty store."""
    postgres.execute(EMPTY, migrated)
    return postgres.url(migrated)


@pytest.fixture(params=("memory", *SQL))
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """Every store."""
    if request.param == "memory":
        memory = MemoryBackend()
        await memory.data_keys.add_first_data_keys(DATA_KEYS)
        yield memory
        return
    opened = await open_sql(_url(request, request.param), tmp_path / "data")
    await opened.data_keys.add_first_data_keys(DATA_KEYS)
    yield opened
    await opened.aclose()


@pytest.fixture(params=SQL)
async def sql(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlBackend]:
    """Every store over SQL."""
    opened = await open_sql(_url(request, request.param), tmp_path / "data")
    await opened.data_keys.add_first_data_keys(DATA_KEYS)
    yield opened
    await opened.aclose()


def _url(request: pytest.FixtureRequest, name: str) -> str | None:
    if name == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    if name == "pgbouncer":
        bouncer: PgBouncer = request.getfixturevalue("pgbouncer")
        return bouncer.url(request.getfixturevalue("migrated"))
    return url
