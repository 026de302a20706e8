"""The heartbeat of a lease while its owner works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from broker.core.errors import StoreUnavailableError


@asynccontextmanager
async def beating(every: float, extend: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run `extend` every so many seconds until the block ends.

    A store that is away costs the lease at worst, and a lease carries liveness only: the block is not disturbed.
    """

    async def beat() -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await extend()
            except StoreUnavailableError:  # the next beat tries again
                continue

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
