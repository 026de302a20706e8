"""The tables that migrations make are the tables the statements expect."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import StoreRefusedError, migrate
from broker.adapters.sql.migrate import TABLES_VERSION, alembic_config
from broker.adapters.sql.tables import metadata
from tests.contract.backends import SqlBackend, open_sql
from tests.support.postgres import PostgresServer


async def test_migrations_and_tables_agree(sql: SqlBackend) -> None:
    """Comparing a migrated database with the tables in code finds no difference."""

    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name not in {"audit_events", "limit_bucket"}  # whose statements are text

    def compare(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True, "include_name": ours}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async def work(connection: AsyncConnection) -> list[object]:
        return await connection.run_sync(compare)

    assert [] == await sql.database._lanes.read(work)


async def test_migrating_twice_changes_nothing(postgres: PostgresServer, tmp_path: Path) -> None:
    """A second `migrate` finds nothing to do and the store opens."""
    url = postgres.url(postgres.create_database())
    await migrate(url)
    await migrate(url)
    await (await open_sql(url, tmp_path)).aclose()


async def test_an_empty_postgresql_is_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    """A database without our tables is not migrated behind the operator's back; the message names the command."""
    with pytest.raises(StoreRefusedError, match="run `aries-broker migrate`"):
        await open_sql(postgres.url(postgres.create_database()), tmp_path)


async def test_a_newer_postgresql_is_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    """Tables of a version this broker does not know are left alone, by opening and by migrating."""
    name = postgres.create_database()
    await migrate(postgres.url(name))
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", name)
    for attempt in (open_sql(postgres.url(name), tmp_path), migrate(postgres.url(name))):
        with pytest.raises(StoreRefusedError, match=r"newer version \(9999\)"):
            await attempt


async def test_a_newer_sqlite_is_refused(tmp_path: Path) -> None:
    """The same on SQLite, and the folder is free again afterwards."""
    opened = await open_sql(None, tmp_path)
    await opened.execute("UPDATE alembic_version SET version_num = '9999'")
    await opened.aclose()
    for _ in range(2):
        with pytest.raises(StoreRefusedError, match=r"newer version \(9999\)"):
            await open_sql(None, tmp_path)


@pytest.mark.parametrize("url", ["sqlite://", "mysql://db.example/broker"])
async def test_only_postgresql_is_migrated_by_hand(url: str) -> None:
    """SQLite needs no `migrate`, other databases are not spoken to."""
    with pytest.raises(StoreRefusedError):
        await migrate(url)


def test_the_newest_migration_is_the_tables_version() -> None:
    """A migration that is added is named where starts look, so that Alembic is needed only to migrate."""
    assert TABLES_VERSION == ScriptDirectory.from_config(alembic_config()).get_current_head()
