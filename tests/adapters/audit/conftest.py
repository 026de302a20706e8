from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters.sql.migrate import migrate
from tests.adapters.audit.support import Database, PostgresDatabase, SqliteDatabase
from tests.support.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def audit_server() -> Iterator[tuple[PostgresServer, str]]:
    """Run a PostgreSQL; give it and the name of a migrated database to copy."""
    with running_postgres() as server:
        template = server.create_database()
        asyncio.run(migrate(server.url(template)))
        yield server, template


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Give an empty audit table in either database, its `control.version` at 1."""
    if request.param == "sqlite":
        yield SqliteDatabase(tmp_path / "audit.db")
    else:
        yield request.getfixturevalue("postgres_database")


@pytest.fixture
def postgres_database(audit_server: tuple[PostgresServer, str]) -> PostgresDatabase:
    """Make a database as the migrations make it, its `control.version` at 1."""
    server, template = audit_server
    database = PostgresDatabase(server.url(server.create_database(template)))
    database.version = 1
    return database
