"""PostgreSQL: a connection reserved for the redeem's commits, some left to audit and limits, the rest shared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.lanes import Lane

LEAST_POOL: Final = 4
"""One connection for the redeem's commits, one for everything else, and one each for audit and limits, which have their
own."""
ACQUIRE_SECONDS: Final = 2.0
CONNECT_SECONDS: Final = 2
UNACKNOWLEDGED_MS: Final = 5000
"""After this long without an answer from the network the kernel gives a connection up."""
IDLE_SECONDS: Final = 5
"""After this long without a statement the server ends a transaction: a process that was stopped, or cut off, inside one
would keep its locks for as long as TCP keeps the session. It is less than what is left of a lease, and longer than a
living process, which waits for nothing but the database there, can take."""
LOCK_SECONDS: Final = 4
"""Longest the server lets a statement wait for a lock. It is less, so that what one transaction of a stopped process
held does not come to the next of it."""

# Set in each transaction, since a pooler drops what a session sets, and in one message with what it begins with.
_BOUNDED: Final = (
    f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'; SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"
)
_SNAPSHOT: Final = text(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; {_BOUNDED}")
_DURABLE: Final = text(f"SET LOCAL synchronous_commit = on; {_BOUNDED}")


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
        self._shared = connect_postgres(url, pool_size - 2 - limit_connections(pool_size))

    async def check(self) -> None:
        """Make sure that a commit is durable.

        Raises:
            StoreRefusedError: the server runs with fsync off.
        """
        async with self.reading() as connection:
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


def limit_connections(pool_size: int) -> int:
    """Return how many of so many connections are the limits'."""
    return 2 if pool_size > 2 * LEAST_POOL else 1


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
