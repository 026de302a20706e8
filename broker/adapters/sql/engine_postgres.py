"""PostgreSQL: a connection reserved for the redeem's commits, one left to the audit, the rest shared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.lanes import Lane

LEAST_POOL: Final = 3
"""One connection for the redeem's commits, one for everything else, and one for the audit, which has its own."""
ACQUIRE_SECONDS: Final = 2.0
CONNECT_SECONDS: Final = 2
UNACKNOWLEDGED_MS: Final = 5000
"""After this long without an answer from the network the kernel gives a connection up."""

_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_DURABLE = text("SET LOCAL synchronous_commit = on")


class PostgresEngine:
    """The connections to one PostgreSQL database, straight or through PgBouncer in transaction mode."""

    interruptible = True

    def __init__(self, url: URL, pool_size: int) -> None:
        """Prepare the pools; nothing is connected yet.

        Raises:
            StoreRefusedError: fewer than LEAST_POOL connections.
        """
        if pool_size < LEAST_POOL:
            msg = f"a pool of {pool_size} connections is too small: the broker needs at least {LEAST_POOL}"
            raise StoreRefusedError(msg)
        self._commit = connect_postgres(url, 1)
        self._shared = connect_postgres(url, pool_size - 2)

    async def check(self) -> None:
        """Make sure that a commit is durable.

        Raises:
            StoreRefusedError: the server runs with fsync off.
        """
        async with self._shared.connect() as connection:
            fsync = (await connection.execute(text("SHOW fsync"))).scalar_one()
        if fsync != "on":
            msg = "this PostgreSQL runs with fsync=off and would forget refresh tokens in a crash: set fsync=on"
            raise StoreRefusedError(msg)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a shared connection in a read-only snapshot."""
        async with self._shared.connect() as connection:
            await connection.execute(_SNAPSHOT)
            yield connection

    @asynccontextmanager
    async def writing(self, lane: Lane) -> AsyncIterator[AsyncConnection]:
        """Lend a connection of the lane."""
        engine = self._commit if lane is Lane.COMMIT else self._shared
        async with engine.connect() as connection:
            await connection.execute(_DURABLE)
            yield connection

    async def dispose(self) -> None:
        """Close all connections."""
        for engine in (self._commit, self._shared):
            await engine.dispose()


def connect_postgres(url: URL, connections: int) -> AsyncEngine:
    """Return an engine of at most so many connections; no server-side statements, so that PgBouncer may pool."""
    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=ACQUIRE_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "prepare_threshold": None,
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": UNACKNOWLEDGED_MS,
            "application_name": "aries-broker",
        },
    )
