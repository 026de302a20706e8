"""SQLite: one writer connection with a priority queue before it, a few readers, every commit on the disk."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from broker.adapters.sql.clock import BOOT_FUNCTION, boot_ms
from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.lanes import STATEMENT_SECONDS, Lane

READERS: Final = 3
"""Read connections; each is a thread."""
BUSY_MS: Final = 2000
"""Longest SQLite waits for a lock; only a checkpoint or a backup can hold one besides the writer."""


class PriorityLock:
    """A lock whose next holder is the most urgent that waits, the earliest among equals."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    @asynccontextmanager
    async def hold(self, priority: int) -> AsyncIterator[None]:
        """Hold the lock; lower numbers go first."""
        await self._acquire(priority)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, priority: int) -> None:
        if not self._held:
            self._held = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, (priority, self._arrivals, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._held = False


class SqliteEngine:
    """The connections to one SQLite file."""

    interruptible = False

    def __init__(self, path: Path) -> None:
        self._writer = _engine(path, begin="BEGIN IMMEDIATE", connections=1, read_only=False)
        self._readers = _engine(path, begin="BEGIN", connections=READERS, read_only=True)
        self._turn = PriorityLock()

    async def check(self) -> None:
        """Make sure that a commit is durable.

        Raises:
            StoreRefusedError: the database is not in WAL mode or does not sync every commit.
        """
        async with self.writing(Lane.COMMIT) as connection:
            journal = (await connection.execute(text("PRAGMA journal_mode"))).scalar_one()
            synchronous = (await connection.execute(text("PRAGMA synchronous"))).scalar_one()
        if (journal, synchronous) != ("wal", 2):
            msg = f"SQLite must run with WAL and synchronous=FULL, but has {journal} and synchronous={synchronous}"
            raise StoreRefusedError(msg)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a read connection; a deferred transaction sees one snapshot from its first statement on."""
        async with self._readers.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self, lane: Lane) -> AsyncIterator[AsyncConnection]:
        """Lend the writer."""
        async with self._turn.hold(lane), self._writer.connect() as connection:
            yield connection

    async def dispose(self) -> None:
        """Close all connections; the last one checkpoints the WAL."""
        await self._readers.dispose()
        await self._writer.dispose()


def _engine(path: Path, *, begin: str, connections: int, read_only: bool) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=STATEMENT_SECONDS,
        hide_parameters=True,
        connect_args={"isolation_level": None},  # transactions begin where we say so
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's driver shim has no type
        connection.create_function(BOOT_FUNCTION, 0, boot_ms)
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"query_only={'ON' if read_only else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
