"""An event loop in a thread of its own, for tests that block while a server of theirs has to answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from tests.support.waiting import ENOUGH

T = TypeVar("T")


class LoopThread:
    """A running loop; `run` blocks until a coroutine is done there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers of the tests")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(ENOUGH * 2)

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Hold an asynchronous context for the length of the block."""
        value = self.run(manager.__aenter__())
        try:
            yield value
        finally:
            self.run(manager.__aexit__(None, None, None))

    def stop(self) -> None:
        """End the loop and its thread, once what runs in it has ended."""
        self.run(_at_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _at_rest() -> None:
    """Wait for the other tasks, such as those that read what processes print to its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=ENOUGH)
    await asyncio.sleep(0)  # connections close a turn after their end
