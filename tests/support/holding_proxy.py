"""A TCP proxy that can hold what the server answers, so that a test decides how long a call is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class HoldingProxy:
    """A running proxy.

    Attributes:
        url: its root.
        answered: set once the server has begun an answer, held or not.
        open: while it is set, answers go through.
    """

    target: str
    url: str = ""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def hold(self) -> None:
        """Let no answer through until `release`."""
        self.answered.clear()
        self.open.clear()

    def release(self) -> None:
        """Let answers through again."""
        self.open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        target = urlsplit(self.target)
        up_reader, up_writer = await asyncio.open_connection(target.hostname, target.port)
        both = [
            asyncio.create_task(self._carry(reader, up_writer, answers=False)),
            asyncio.create_task(self._carry(up_reader, writer, answers=True)),
        ]
        self._tasks.update(both)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if both[0].done() and not both[1].done():  # the caller is gone, or has said everything
            await asyncio.wait(both, timeout=0.1)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        self._tasks.difference_update(both)
        for end in (writer, up_writer):
            end.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                if answers:
                    self.answered.set()
                    await self.open.wait()
                sink.write(data)
                await sink.drain()


@asynccontextmanager
async def holding_proxy(target: str) -> AsyncIterator[HoldingProxy]:
    """Run a proxy to `target`, a root URL, for the length of the block."""
    proxy = HoldingProxy(target)
    proxy.release()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        proxy.release()
        server.close()
        for task in list(proxy._tasks):
            task.cancel()
        await server.wait_closed()
