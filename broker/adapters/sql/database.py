"""Opening the store, in two stages: the rows of data keys first, since the keys that check all others lie in them."""

from __future__ import annotations

from pathlib import Path

from broker.adapters.sql.access_tokens import SqlAccessTokens
from broker.adapters.sql.api_keys import SqlApiKeys
from broker.adapters.sql.catalog import SqlCatalog
from broker.adapters.sql.client_secrets import SqlSecrets
from broker.adapters.sql.data_folder import FolderLock, create_database_file, prepare_folder
from broker.adapters.sql.data_keys import SqlDataKeys
from broker.adapters.sql.engine_postgres import PostgresEngine
from broker.adapters.sql.engine_sqlite import SqliteEngine
from broker.adapters.sql.errors import DATABASE_ERRORS, StoreRefusedError, translate
from broker.adapters.sql.grants import SqlGrants
from broker.adapters.sql.lanes import Lane, Lanes
from broker.adapters.sql.migrate import database_url, refuse_out_of_date, upgrade
from broker.adapters.sql.outbox import SqlOutbox
from broker.adapters.sql.restart import host_boot_id, take_over
from broker.core.grant_state import RedeemTimes
from broker.ports import MacKeys

DEFAULT_POOL = 10


class SqlStore(SqlCatalog, SqlGrants, SqlAccessTokens, SqlSecrets, SqlApiKeys, SqlOutbox):
    """The ports CatalogStore, GrantStore, SecretStore, KeyStore and Outbox over one database."""


class SqlDatabase(SqlDataKeys):
    """An open database; implements DataKeyStore."""

    def __init__(self, lanes: Lanes, lock: FolderLock | None) -> None:
        """Take over the lanes, and on SQLite the lock of the data folder, until closed."""
        super().__init__(lanes)
        self._lock = lock

    def store(self, mac_keys: MacKeys, times: RedeemTimes) -> SqlStore:
        """Return the store; rows are MACed under `mac_keys`, leases last as `times` says."""
        return SqlStore(self._lanes, mac_keys, times)

    async def aclose(self) -> None:
        """Let running transactions end, close the connections, then free the data folder; the stores are closed too."""
        await self._lanes.aclose()
        if self._lock is not None:
            self._lock.close()


async def open_database(url: str | None, data_dir: Path, *, pool_size: int = DEFAULT_POOL) -> SqlDatabase:
    """Open the database of `url`, or SQLite in `data_dir` when there is none, and make sure it is fit to be used.

    Args:
        url: `postgresql://…`; None, empty or `sqlite://` for the file in the data folder.
        data_dir: the data folder; made private.
        pool_size: most connections to PostgreSQL, all lanes together, the one the audit opens for itself included.

    Raises:
        StoreRefusedError: the folder is in use or unsafe, the tables are out of date, commits would not be durable.
        StoreUnavailableError: the database is away.
    """
    try:
        if url and database_url(url).get_backend_name() == "postgresql":
            return await _open_postgres(url, pool_size)
        if url and database_url(url).database:
            msg = "an SQLite store lies in the data folder: set BROKER_DATA_DIR, not a path in BROKER_DATABASE_URL"
            raise StoreRefusedError(msg)
        return await _open_sqlite(data_dir)
    except DATABASE_ERRORS as error:
        raise translate(error) from error


async def _open_sqlite(data_dir: Path) -> SqlDatabase:
    prepare_folder(data_dir)
    lock = FolderLock(data_dir)
    engine = SqliteEngine(create_database_file(data_dir))
    try:
        await engine.check()
        async with engine.writing(Lane.COMMIT) as connection:
            await upgrade(connection)
        async with engine.writing(Lane.COMMIT) as connection:
            await take_over(connection, host_boot_id())
            await connection.commit()
    except BaseException:
        await engine.dispose()
        lock.close()
        raise
    return SqlDatabase(Lanes(engine), lock)


async def _open_postgres(url: str, pool_size: int) -> SqlDatabase:
    engine = PostgresEngine(database_url(url), pool_size)
    try:
        await engine.check()
        async with engine.reading() as connection:
            await refuse_out_of_date(connection)
    except BaseException:
        await engine.dispose()
        raise
    return SqlDatabase(Lanes(engine), None)
