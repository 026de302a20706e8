"""Waiting for conditions, which is all that tests wait for: nothing sleeps in the hope that it is long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

ENOUGH: Final = 30.0
"""Seconds after which what is waited for will not come, however busy the machine."""


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(ENOUGH):
        while not condition():  # noqa: ASYNC110 - any condition of a test
            await asyncio.sleep(0.001)


async def until_told(ask: Callable[[], Awaitable[bool]], every: float = 0.1, within: float = ENOUGH) -> None:
    """Return once another process, asked `every` so many seconds, says so.

    Raises:
        TimeoutError: not `within` so many.
    """
    async with asyncio.timeout(within):
        while not await ask():  # noqa: ASYNC110 - it tells nobody by itself
            await asyncio.sleep(every)
