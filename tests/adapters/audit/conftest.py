from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters.sql.migrate import migrate
from tests.adapters.audit.support import Database, PostgresDatabase, SqliteDatabase
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> str:
    """Give the name of a migrated database to copy."""
    template = postgres.create_database()
    asyncio.run(migrate(postgres.url(template)))
    return template


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Give an empty audit table in either database, its `control.version` at 1."""
    if request.param == "sqlite":
        yield SqliteDatabase(tmp_path / "audit.db")
    else:
        yield request.getfixturevalue("postgres_database")


@pytest.fixture
def postgres_database(postgres: PostgresServer, migrated: str) -> PostgresDatabase:
    """Make a database as the migrations make it, its `control.version` at 1."""
    name = postgres.create_database(migrated)
    database = PostgresDatabase(postgres.url(name), name)
    database.version = 1
    return database
