"""The network side of an exchange: checked addresses, and a write that happens before anything is awaited."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpcore2

from broker.adapters.egress import Resolve, check_addresses, dial
from broker.core.oauth.rfc6749 import HttpReply
from broker.ports import NotSentError, ReplyLostError


@dataclass(slots=True)
class Progress:
    """How far an exchange got.

    Attributes:
        written: the first byte of the request was handed over.
        ended: the peer stopped sending.
        withheld: what the write hook raised.
        head, body: of the reply, as far as it came.
    """

    written: bool = False
    ended: bool = False
    withheld: BaseException | None = None
    head: HttpReply | None = None
    body: bytearray = field(default_factory=bytearray)

    def failed(self, cause: str) -> NotSentError | ReplyLostError:
        """Return what is raised for a cause in the words of ReplyLostError."""
        if not self.written:
            return NotSentError({"timeout": "timeout", "malformed": "withheld"}.get(cause, "connect"))
        partial = self.head and HttpReply(self.head.status, self.head.headers, bytes(self.body))
        return ReplyLostError(cause, partial)


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, resolve: Resolve, limit: float, progress: Progress, *, plain: bool) -> None:
        self._resolve = resolve
        self._limit = limit
        self._progress = progress
        self._plain = plain

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the engine's signature; one timer bounds everything
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check, dial; plain connections are ready at once.

        Raises:
            NotSentError: there is no connection.
        """
        del timeout, local_address, socket_options
        addresses = await self._resolve(host, port)
        check_addresses(addresses, plain=self._plain)
        sock = await dial(addresses, port, limit=self._limit)
        if not self._plain:
            return _Dialled(sock, self._progress)
        return _Stream(*await asyncio.open_connection(sock=sock), self._progress)


class _Dialled(httpcore2.AsyncNetworkStream):
    """A connected socket that waits for TLS; a handshake that fails or is cancelled closes it."""

    def __init__(self, sock: socket.socket, progress: Progress) -> None:
        self._socket = sock
        self._progress = progress

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the engine's signature; one timer bounds everything
    ) -> httpcore2.AsyncNetworkStream:
        del timeout
        try:
            streams = await asyncio.open_connection(sock=self._socket, ssl=ssl_context, server_hostname=server_hostname)
        except OSError:  # ssl.SSLError is one
            raise NotSentError("tls") from None
        return _Stream(*streams, self._progress)


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection ready to be written to; `write` hands its bytes over before it awaits anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, progress: Progress) -> None:
        self._reader = reader
        self._writer = writer
        self._progress = progress

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        del timeout
        if self._writer.is_closing() or self._reader.at_eof():
            if not self._progress.written:
                raise NotSentError("connect")  # past a WriteError the engine reads on and believes what came before
            raise httpcore2.WriteError  # the peer is gone and could not answer: what is not written yet stays here
        self._progress.written = True
        try:
            self._writer.write(buffer)
            await self._writer.drain()
        except OSError:
            raise httpcore2.WriteError from None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as above
        del timeout
        try:
            data = await self._reader.read(max_bytes)
        except OSError:
            self._progress.ended = True
            raise httpcore2.ReadError from None
        self._progress.ended = not data
        return data

    async def aclose(self) -> None:
        self._writer.transport.abort()

    def get_extra_info(self, info: str) -> object:
        return self._writer.get_extra_info(info)
