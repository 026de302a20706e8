"""Writing what must not be lost to a short outage of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from broker.core.errors import BrokerError, StoreUnavailableError

FIRST_PAUSE: Final = 0.05
"""Seconds before a write that failed is tried again; doubled each time, to"""
LONGEST_PAUSE: Final = 1.0

Trouble = Callable[[BrokerError], None]
T = TypeVar("T")


async def until_stored(write: Callable[[], Awaitable[T]], trouble: Trouble) -> T:
    """Repeat a write until the store takes it; the process's end is the only other end of an outage.

    Args:
        write: may be run again: what it does twice is done once.
        trouble: told of each failure, so that nobody has to wait for the end of an outage.

    Raises:
        StoreUnavailableError: one that will not pass by itself.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            return await write()
        except StoreUnavailableError as error:
            trouble(error)
            if not error.may_pass:
                raise
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
