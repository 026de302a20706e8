"""The network side of an exchange: checked addresses, and a write that happens before anything is awaited."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from broker.adapters.bounded_reader import MAX_LINE, BoundedReader
from broker.adapters.egress import Resolve, check_addresses, dial
from broker.ports import NotSentError


async def connect(host: str, port: int, *, resolve: Resolve, limit: float, tls: ssl.SSLContext | None) -> Connection:
    """Resolve, check, dial and shake hands; without `tls` to loopback only.

    Args:
        host: whom to connect to; its certificate has to be for this name.
        port: where.
        resolve: how names become addresses.
        limit: seconds that all addresses share for answering; the handshake is not in it.
        tls: the trust anchors, or None for plain http.

    Raises:
        NotSentError: there is no connection.
        OSError: no socket can be had.
    """
    addresses = await resolve(host, port)
    check_addresses(addresses, plain=tls is None)
    sock = await dial(addresses, port, limit=limit)
    if tls is None:
        return Connection(*await asyncio.open_connection(sock=sock, limit=MAX_LINE))
    try:
        streams = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=host, limit=MAX_LINE)
    except OSError:  # ssl.SSLError is one
        raise NotSentError("tls") from None
    return Connection(*streams)


class Connection:
    """A connection ready to be written to; `write` hands its bytes over before it awaits anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reader = BoundedReader(reader)

    async def write(self, request: bytes) -> None:
        """Write the whole request; a peer that goes meanwhile may have answered before, so that is no error.

        Raises:
            NotSentError: the peer was gone already. What it may have said before that is an answer to nothing.
        """
        if self._writer.is_closing() or self._reader.at_eof():
            raise NotSentError("connect")
        self._writer.write(request)
        with contextlib.suppress(OSError):
            await self._writer.drain()

    def abort(self) -> None:
        """Close the connection at once, whatever is under way."""
        self._writer.transport.abort()
