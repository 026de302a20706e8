"""Transactions that are cut off, as their time-out does it: wherever that is, the connection is there for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.adapters.sql.lanes import Engine, Lane
from tests.contract.backends import SqlBackend

NEXT = text("UPDATE control SET revision = revision + 1 RETURNING revision")


async def write(engine: Engine) -> None:
    """Write on the lane that has one connection."""
    async with engine.writing(Lane.COMMIT) as connection:
        await connection.execute(text("UPDATE control SET version = version + 1"))
        await asyncio.sleep(0)  # where the database is not asked anything
        await connection.commit()


async def read(engine: Engine) -> None:
    """Read a row."""
    async with engine.reading() as connection:
        (await connection.execute(text("SELECT version FROM control"))).scalar_one()
        await asyncio.sleep(0)


@dataclass
class CutOff(Awaitable[None]):
    """Work that is cancelled at one of its awaits: while it waits there, or in the moment it has what it waited for.

    Attributes:
        reached: whether it came that far.
    """

    work: Coroutine[Any, Any, None]
    number: int
    late: bool
    reached: bool = False

    def __await__(self) -> Generator[Any, None, None]:
        steps = self.work.__await__()
        came: BaseException | None = None
        passed = 0
        while True:
            try:
                waited_for = steps.send(None) if came is None else steps.throw(came)
            except StopIteration:
                return
            here, came = passed == self.number, None
            passed += 1
            self.reached |= here
            task = asyncio.current_task()
            if here and not self.late and task is not None:
                task.cancel()
            try:
                yield waited_for
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the work's
                came = error
            else:
                came = asyncio.CancelledError() if here and self.late else None


async def cut(work: Coroutine[Any, Any, None], number: int, *, late: bool) -> bool:
    """Cut work off in a task of its own; tell whether it came so far."""
    cut_off = CutOff(work, number, late)

    async def run() -> None:
        await cut_off

    await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
    return cut_off.reached


def lent(engine: Engine) -> int:
    """Return how many connections are lent."""
    pools: list[Any] = [each.pool for each in vars(engine).values() if isinstance(each, AsyncEngine)]
    return sum(pool.checkedout() for pool in pools)


@pytest.mark.parametrize("late", [False, True], ids=["waiting", "answered"])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
@pytest.mark.parametrize("work", [write, read])
async def test_a_transaction_cut_off_anywhere_gives_its_connection_back(
    sql: SqlBackend, work: Callable[[Engine], Coroutine[Any, Any, None]], connected: bool, late: bool
) -> None:
    """At every await, from the checkout to the return: nothing stays lent, and the same lane serves whoever is next."""
    engine = sql.database._lanes._engine
    number, left, served = 0, [], []
    while True:
        await (work(engine) if connected else engine.dispose())
        if not await cut(work(engine), number, late=late):
            break
        number += 1
        left.append(lent(engine))
        async with engine.writing(Lane.COMMIT) as connection:
            served.append((await connection.execute(NEXT)).scalar_one())
            await connection.commit()
    assert ([0] * number, list(range(1, number + 1))) == (left, served)
