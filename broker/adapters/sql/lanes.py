"""How transactions are run: in lanes, bounded in time, out of reach of a caller's cancellation.

Every transaction runs in a task of its own that this module holds. A caller that is cancelled or tired of waiting
leaves; the transaction, its COMMIT above all, goes on and `aclose` waits for it. A COMMIT whose answer was lost is read
back by what it wrote before anything is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from enum import IntEnum
from typing import Final, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.errors import DATABASE_ERRORS, translate, unavailable

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

STATEMENT_SECONDS: Final = 5.0
"""Longest a transaction may take, and longest a caller waits for it, where nothing else is said."""
CLOSE_SECONDS: Final = 10.0
"""Longest that closing waits for transactions still running."""
READ_BACKS: Final = 3
READ_BACK_PAUSE: Final = 0.2


def _nobody(_: object) -> None:
    """Tell nobody of a commit."""


class Lane(IntEnum):
    """Who goes first: COMMIT is the redeem's (SENT, LAND, FINISH) and never waits for anything else."""

    COMMIT = 0
    SHARED = 1


class Engine(Protocol):
    """A database's connections."""

    @property
    def interruptible(self) -> bool:
        """Tell whether a running statement may be cancelled; otherwise only the wait for it ends."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection in a transaction that sees one snapshot and writes nothing."""

    def writing(self, lane: Lane) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection in a transaction whose commit is durable; leaving without a commit rolls back."""

    async def dispose(self) -> None:
        """Close all connections."""


class Lanes:
    """Runs transactions over an engine.

    Attributes:
        version: the newest `control.version` this process wrote or read; on SQLite, whose one process this is, the
            version itself.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: set[asyncio.Task[object]] = set()
        self._closed = False
        self.version = 0

    async def read(self, work: Work[T], seconds: float = STATEMENT_SECONDS) -> T:
        """Return what `work` read, within `seconds`.

        Raises:
            StoreUnavailableError: with its cause.
        """
        return await self._detached(self._read(work, seconds), seconds)

    async def write(
        self,
        work: Work[T],
        *,
        lane: Lane = Lane.SHARED,
        confirm: Work[bool] | None = None,
        committed: Callable[[T], None] = _nobody,
        seconds: float = STATEMENT_SECONDS,
    ) -> T:
        """Run `work` and commit it durably, whatever becomes of the caller; return what it returned.

        Args:
            work: the statements; what it raises rolls back and comes out.
            lane: whose connection.
            confirm: reads back, after a lost answer to COMMIT, whether it happened; it must lock the row `work` locked
                first, so that a commit still under way has ended when it looks.
            committed: told what was committed, also when the caller has left.
            seconds: longest it may take.

        Raises:
            StoreUnavailableError: nothing was written, or (causes `commit`, `timeout`) nobody knows.
        """
        return await self._detached(self._write(work, lane, confirm, committed, seconds), seconds)

    async def aclose(self) -> None:
        """Let running transactions end, take no more, close the connections."""
        self._closed = True
        if self._running:
            await asyncio.wait(set(self._running), timeout=CLOSE_SECONDS)
        await self._engine.dispose()

    async def _detached(self, work: Coroutine[object, object, T], seconds: float) -> T:
        if self._closed:
            work.close()
            raise unavailable("closed")
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise unavailable("timeout")
        return task.result()

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the caller may have left

    def _bounded(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds) if self._engine.interruptible else nullcontext()

    async def _read(self, work: Work[T], seconds: float) -> T:
        try:
            async with self._bounded(seconds), self._engine.reading() as connection:
                return await work(connection)
        except DATABASE_ERRORS as error:
            raise translate(error) from error

    async def _write(
        self, work: Work[T], lane: Lane, confirm: Work[bool] | None, committed: Callable[[T], None], seconds: float
    ) -> T:
        result: list[T] = []
        try:
            async with self._bounded(seconds), self._engine.writing(lane) as connection:
                result.append(await work(connection))
                await connection.commit()
        except DATABASE_ERRORS as error:
            if not result:
                raise translate(error) from error
            if confirm is None or not await self._confirmed(confirm, lane):
                raise unavailable("commit") from error
        committed(result[0])
        return result[0]

    async def _confirmed(self, confirm: Work[bool], lane: Lane) -> bool:
        for _ in range(READ_BACKS):
            try:
                async with self._bounded(STATEMENT_SECONDS), self._engine.writing(lane) as connection:
                    return await confirm(connection)
            except DATABASE_ERRORS:
                await asyncio.sleep(READ_BACK_PAUSE)
        return False
