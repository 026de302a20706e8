"""Bringing a database's tables to this version's, and telling whether they are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.engine_postgres import connect_postgres
from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.opening import refusing

if TYPE_CHECKING:
    from alembic.config import Config

TABLES_VERSION: Final = "0009"
"""Name of the tables this version works on: the newest migration."""

_BOUNDED: Final = text("SET LOCAL idle_in_transaction_session_timeout = '60s'")
"""Ends a migration whose process was stopped: it keeps every broker from the tables it has changed."""

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


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
                await connection.execute(_BOUNDED)
                await upgrade(connection)
    finally:
        await engine.dispose()


async def upgrade(connection: AsyncConnection) -> None:
    """Run the missing migrations in one transaction and commit it.

    Raises:
        StoreRefusedError: the tables are of a newer version.
    """
    if await connection.run_sync(_known) != TABLES_VERSION:
        await connection.run_sync(_upgrade)
    await connection.commit()


async def refuse_out_of_date(connection: AsyncConnection) -> None:
    """Make sure the tables are this version's.

    Raises:
        StoreRefusedError: they are older, newer, or not there.
    """
    if await connection.run_sync(_known) != TABLES_VERSION:
        msg = "the database's tables are not of this version: run `aries-broker migrate` first"
        raise StoreRefusedError(msg)


def alembic_config() -> Config:
    """Return Alembic's configuration; there is no ini file."""
    from alembic.config import Config  # noqa: PLC0415 - half of what a broker's start imports, and seldom needed

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _known(connection: Connection) -> str | None:
    """Return the name of the tables there are, None when there are none.

    Raises:
        StoreRefusedError: they are of a newer version.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    stored: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    ours = {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py")}
    if stored is not None and stored not in ours:
        msg = (
            f"the database's tables are of a newer version ({stored}) than this broker knows: "
            "run that version, whose `aries-broker migrate` made them"
        )
        raise StoreRefusedError(msg)
    return stored


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - as above

    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
