"""A server that does what a test says, byte by byte, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.support.waiting import ENOUGH

Script = Callable[["Connection"], Awaitable[None]]


@dataclass
class Connection:
    """One accepted connection.

    Attributes:
        received: everything the client wrote, whatever the script did; `closed` is set when the client is gone.
        heard, asked: set once the first byte, a whole request is there.
    """

    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone_within(self, seconds: float) -> bool:
        """Tell whether the client goes within so many seconds."""
        try:
            await asyncio.wait_for(self.closed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Collect what comes until the client is gone."""
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self.received += data
                self.heard.set()
                head, blank, body = bytes(self.received).partition(b"\r\n\r\n")
                fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
                length = next((int(value) for name, _, value in fields if name == b"content-length"), 0)
                if blank and len(body) >= length:
                    self.asked.set()
        self.closed.set()


@dataclass
class RawServer:
    """A listening script; `connections` in the order accepted."""

    port: int
    connections: list[Connection] = field(default_factory=list)
    accepted: asyncio.Event = field(default_factory=asyncio.Event)

    async def first(self) -> Connection:
        """Return the first connection as soon as it is there, its TLS done."""
        await asyncio.wait_for(self.accepted.wait(), ENOUGH)
        return self.connections[0]


@contextlib.asynccontextmanager
async def raw_server(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Run the script for each connection to a port of its own; it ends when the connection is to be closed."""
    tasks: set[asyncio.Task[None]] = set()
    server = RawServer(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        server.connections.append(connection)
        server.accepted.set()
        listening = asyncio.create_task(connection.listen(reader))
        tasks.update({listening, asyncio.current_task()})  # type: ignore[arg-type]  # inside a task
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await script(connection)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    listener = await asyncio.start_server(serve, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(raw: bytes) -> Script:
    """Return a script that answers a whole request with these bytes and closes."""

    async def script(connection: Connection) -> None:
        await connection.asked.wait()
        await connection.send(raw)

    return script


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return a whole HTTP/1.1 reply with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
