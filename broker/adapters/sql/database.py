"""Opening the store, in two stages: the rows of data keys first, since the keys that check all others lie in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL

from broker.adapters.data_folder import DataFolder
from broker.adapters.sql.access_tokens import SqlAccessTokens
from broker.adapters.sql.api_keys import SqlApiKeys
from broker.adapters.sql.catalog import SqlCatalog
from broker.adapters.sql.client_secrets import SqlSecrets
from broker.adapters.sql.data_keys import SqlDataKeys
from broker.adapters.sql.engine_postgres import PostgresEngine
from broker.adapters.sql.engine_sqlite import SqliteEngine
from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.grants import SqlGrants
from broker.adapters.sql.lanes import Lane, Lanes
from broker.adapters.sql.logins import SqlLogins
from broker.adapters.sql.migrate import database_url, refuse_out_of_date, upgrade
from broker.adapters.sql.opening import refuse_without_rights, refusing
from broker.adapters.sql.outbox import SqlOutbox
from broker.adapters.sql.replicas import SqlReplicas
from broker.adapters.sql.restart import host_boot_id, take_over
from broker.adapters.sql.suspects import SqlSuspects
from broker.core.grant_state import RedeemTimes
from broker.ports import MacKeys

DEFAULT_POOL: Final = 10
FILE_NAME: Final = "broker.db"


class SqlStore(
    SqlCatalog,
    SqlGrants,
    SqlAccessTokens,
    SqlReplicas,
    SqlSuspects,
    SqlSecrets,
    SqlApiKeys,
    SqlLogins,
    SqlOutbox,
):
    """All ports of a store but the data keys, over one database."""


class SqlDatabase(SqlDataKeys):
    """An open database; implements DataKeyStore."""

    def store(self, mac_keys: MacKeys, times: RedeemTimes) -> SqlStore:
        """Return the store; rows are MACed under `mac_keys`, leases last as `times` says."""
        return SqlStore(self._lanes, mac_keys, times)

    async def aclose(self) -> None:
        """Let running transactions end, then close the connections; the stores are closed too."""
        await self._lanes.aclose()


async def open_database(url: str | None, folder: DataFolder, *, pool_size: int = DEFAULT_POOL) -> SqlDatabase:
    """Open the database of `url`, or SQLite in the data folder when there is none, and make sure it is fit to be used.

    Args:
        url: `postgresql://…`; None, empty or `sqlite://` for the file in the data folder.
        folder: the data folder, which proves on SQLite that no other process has the file.
        pool_size: most connections to PostgreSQL, all lanes together, those that audit and limits open for
            themselves included.

    Raises:
        StoreRefusedError: the database is away, its tables are out of date, or commits would not be durable.
    """
    parsed = database_url(url) if url else None
    if parsed is not None and parsed.get_backend_name() == "postgresql":
        with refusing(parsed):
            return await _open_postgres(parsed, pool_size)
    if parsed is not None and parsed.database:
        msg = "an SQLite store lies in the data folder: set BROKER_DATA_DIR, not a path in BROKER_DATABASE_URL"
        raise StoreRefusedError(msg)
    path = folder.path / FILE_NAME
    with refusing(path):
        return await _open_sqlite(path)


async def _open_sqlite(path: Path) -> SqlDatabase:
    _create(path)
    engine = SqliteEngine(path)
    try:
        await engine.check()
        async with engine.writing(Lane.COMMIT) as connection:
            await upgrade(connection)
        async with engine.writing(Lane.COMMIT) as connection:
            await take_over(connection, host_boot_id())
            await connection.commit()
    except BaseException:
        await engine.dispose()
        raise
    return SqlDatabase(Lanes(engine))


def _create(path: Path) -> None:
    """Make sure the database file is there and private.

    It is made before SQLite opens it: closing a descriptor later would drop SQLite's locks.
    """
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)


async def _open_postgres(url: URL, pool_size: int) -> SqlDatabase:
    engine = PostgresEngine(url, pool_size)
    try:
        await engine.check()
        async with engine.reading() as connection:
            await refuse_without_rights(connection)
            await refuse_out_of_date(connection)
    except BaseException:
        await engine.dispose()
        raise
    return SqlDatabase(Lanes(engine))
