"""One HTTP/1.1 exchange over a connection of its own: bounded in time and cost, checked where it goes, never repeated.

No HTTP client is used: nothing is read from the environment, no redirect is followed, nothing is pooled, retried or
decoded, because nothing here could; and the write happens in the same step of the event loop in which the write hook
returns.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from broker.adapters.bounded_reader import BrokenReplyError
from broker.adapters.checked_network import Connection, connect
from broker.adapters.egress import Resolve, check_url
from broker.adapters.host_names import HostNames
from broker.adapters.http_reply import Arriving, read_reply
from broker.core.oauth.rfc6749 import HttpReply
from broker.core.urls import origin_of
from broker.ports import NotSentError, ReplyLostError

CONNECT_LIMIT: Final = 5.0
"""Seconds for name, connection and TLS together."""

_LINE: Final = re.compile(r"[\t -~]+")
_TARGET: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to be exchanged; its printed form holds neither headers nor body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    insecure_loopback: bool


class HttpExchange:
    """Makes exchanges; holds the trust anchors and nothing of any exchange.

    Args:
        ca_files: origin → PEM file of the authorities trusted there instead of the system's.
        connect_limit: seconds until a connection is ready to be written to.
        resolve: how names become addresses; `HostNames` of its own unless given.
    """

    def __init__(
        self,
        ca_files: Mapping[str, str] | None = None,
        *,
        connect_limit: float = CONNECT_LIMIT,
        resolve: Resolve | None = None,
    ) -> None:
        self._ca_files = dict(ca_files or {})
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._connect_limit = connect_limit
        self._resolve = resolve or HostNames()

    async def __call__(
        self, outgoing: Outgoing, *, before_write: Callable[[], Awaitable[None]], reply_deadline: float
    ) -> HttpReply:
        """Connect, await `before_write`, write, and read the whole reply within `reply_deadline` seconds of the write.

        What `before_write` raises comes out unchanged, and nothing was written.

        Raises:
            NotSentError: before the first byte.
            ReplyLostError: after it.
        """
        check_url(outgoing.url, insecure_loopback=outgoing.insecure_loopback)
        request = _build(outgoing)
        connection = await self._connect(outgoing.url)
        try:
            await before_write()
            return await _converse(connection, request, reply_deadline)
        finally:
            connection.abort()

    async def _connect(self, url: str) -> Connection:
        parts = urlsplit(url)
        plain = parts.scheme == "http"
        try:
            async with asyncio.timeout(self._connect_limit):
                return await connect(
                    parts.hostname or "",
                    parts.port or (80 if plain else 443),
                    resolve=self._resolve,
                    limit=self._connect_limit,
                    tls=None if plain else self._context(origin_of(url)),
                )
        except TimeoutError:
            raise NotSentError("timeout") from None
        except OSError:
            raise NotSentError("connect") from None

    def _context(self, origin: str) -> ssl.SSLContext:
        ca_file = self._ca_files.get(origin)
        if ca_file not in self._contexts:
            if ca_file is None:
                import httpx2  # noqa: PLC0415 - a twentieth of a start's imports, for what speaks TLS alone

                context = httpx2.create_ssl_context(trust_env=False)
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.load_verify_locations(ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[ca_file] = context
        return self._contexts[ca_file]


async def _converse(connection: Connection, request: bytes, reply_deadline: float) -> HttpReply:
    """Write and read; nothing is awaited before the write.

    Raises:
        NotSentError: the peer was gone before the first byte.
        ReplyLostError: no whole reply came.
    """
    arriving = Arriving()
    try:
        async with asyncio.timeout(reply_deadline):
            await connection.write(request)
            return await read_reply(connection.reader, arriving)
    except TimeoutError:
        cause = "timeout"
    except OSError:
        cause = "reset"
    except BrokenReplyError as error:
        cause = error.cause
    raise ReplyLostError(cause, arriving.reply())


def _build(outgoing: Outgoing) -> bytes:
    """Return the request as it goes on the wire (RFC 9112 §2.1).

    Raises:
        NotSentError: something in it cannot stand in its line (cause `withheld`).
    """
    parts = urlsplit(outgoing.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "host": origin_of(outgoing.url).partition("://")[2],
        **outgoing.headers,
        "accept-encoding": "identity",
        "connection": "close",
        "content-length": str(len(outgoing.body)),
        "user-agent": "aries-broker",
    }
    lines = [f"{outgoing.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not _TARGET.fullmatch(target) or not all(map(_LINE.fullmatch, lines)):
        raise NotSentError("withheld")
    return "\r\n".join((*lines, "", "")).encode() + outgoing.body
