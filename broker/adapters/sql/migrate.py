"""Bringing a database's tables to this version's, and telling whether they are there."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.engine_postgres import connect_postgres
from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.opening import refusing


def database_url(url: str) -> URL:
    """Return a database URL with the driver we use.

    Raises:
        StoreRefusedError: neither PostgreSQL nor SQLite.
    """
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case "sqlite":
            return parsed.set(drivername="sqlite+aiosqlite")
        case other:
            msg = f"the database URL names {other}: use postgresql:// or leave it out for SQLite in the data folder"
            raise StoreRefusedError(msg)


async def migrate(url: str) -> None:
    """Bring a PostgreSQL database to this version; SQLite does it by itself at every start.

    Raises:
        StoreRefusedError: not PostgreSQL, the database is away, or its tables are of a newer version.
    """
    parsed = database_url(url)
    if parsed.get_backend_name() != "postgresql":
        msg = "an SQLite store is brought up to date when the broker opens it: there is nothing to migrate"
        raise StoreRefusedError(msg)
    engine = connect_postgres(parsed, 1)
    try:
        with refusing(parsed):
            async with engine.connect() as connection:
                await upgrade(connection)
    finally:
        await engine.dispose()


async def upgrade(connection: AsyncConnection) -> None:
    """Run the missing migrations in one transaction and commit it.

    Raises:
        StoreRefusedError: the tables are of a newer version.
    """
    await connection.run_sync(_refuse_newer)
    await connection.run_sync(_upgrade)
    await connection.commit()


async def refuse_out_of_date(connection: AsyncConnection) -> None:
    """Make sure the tables are this version's.

    Raises:
        StoreRefusedError: they are older, newer, or not there.
    """
    await connection.run_sync(_refuse_newer)
    if await connection.run_sync(_stored) != tables_version():
        msg = "the database's tables are not of this version: run `aries-broker migrate` first"
        raise StoreRefusedError(msg)


def alembic_config() -> Config:
    """Return Alembic's configuration; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def tables_version() -> str | None:
    """Return the name of the tables this version works on."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def _stored(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(connection: Connection) -> None:
    stored = _stored(connection)
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if stored is not None and stored not in known:
        msg = (
            f"the database's tables are of a newer version ({stored}) than this broker knows: "
            "run that version, whose `aries-broker migrate` made them"
        )
        raise StoreRefusedError(msg)


def _upgrade(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
