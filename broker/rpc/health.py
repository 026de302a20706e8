"""grpc.health.v1, with watches that end when the server does."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from grpc_health.v1 import health

LAST_WORD: Final = 0.2
"""Seconds a watcher has to be sent the last status."""


class Health(health.aio.HealthServicer):
    """The library's servicer; its watches have no end of their own, and would hold the server for its whole grace."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: ANN401, N802 - the library's signature
        """Stream a service's status until the watcher leaves or the server ends."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({watching}, timeout=LAST_WORD)
        finally:
            watching.cancel()
            ending.cancel()
            await asyncio.gather(watching, ending, return_exceptions=True)

    def end_watches(self) -> None:
        """End every watch, the last status sent."""
        self._ended.set()
