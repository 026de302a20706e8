"""One HTTP/1.1 exchange over a connection of its own: bounded in time and size, checked where it goes, never repeated.

Built on the engine of httpx2 (httpcore2) without its client: nothing is read from the environment, no redirect is
followed, nothing is pooled, retried or decoded, because nothing here could. The network side is ours, so that the
write happens in the same step of the event loop in which the write hook returns.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import httpcore2
import httpx2

from broker.adapters.checked_network import CheckedNetwork, Progress
from broker.adapters.egress import Resolve, check_url, resolve_host
from broker.core.oauth.rfc6749 import HttpReply
from broker.core.urls import origin_of

MAX_REPLY: Final = 256 * 1024
"""Bytes of a reply's body."""
CONNECT_LIMIT: Final = 5.0
"""Seconds for name, connection and TLS together."""

_WRITE_HOOK: Final = "http11.send_request_headers.started"


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
        resolve: how names become addresses.
    """

    def __init__(
        self,
        ca_files: Mapping[str, str] | None = None,
        *,
        connect_limit: float = CONNECT_LIMIT,
        resolve: Resolve = resolve_host,
    ) -> None:
        self._ca_files = dict(ca_files or {})
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._connect_limit = connect_limit
        self._resolve = resolve

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
        progress = Progress()
        try:
            return await self._within_limits(outgoing, progress, before_write, reply_deadline)
        except (OSError, httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            if error is progress.withheld:
                raise
            # Not chained: the engine's texts may quote a header.
            raise progress.failed(_cause(error, progress)) from None

    async def _within_limits(
        self,
        outgoing: Outgoing,
        progress: Progress,
        before_write: Callable[[], Awaitable[None]],
        reply_deadline: float,
    ) -> HttpReply:
        """Run the exchange under one timer: set for the connection, off for `before_write`, set again for the reply."""
        async with asyncio.timeout(self._connect_limit) as timer:

            async def trace(event: str, _: Mapping[str, object]) -> None:
                if event != _WRITE_HOOK:
                    return
                timer.reschedule(None)
                try:
                    await before_write()
                except BaseException as error:
                    progress.withheld = error
                    raise
                timer.reschedule(asyncio.get_running_loop().time() + reply_deadline)

            connection = self._connection(outgoing, progress)
            try:
                return await _read(await connection.handle_async_request(_request(outgoing, trace)), progress)
            finally:
                await connection.aclose()

    def _connection(self, outgoing: Outgoing, progress: Progress) -> httpcore2.AsyncHTTPConnection:
        url = _url(outgoing.url)
        plain = url.scheme == b"http"
        network = CheckedNetwork(self._resolve, self._connect_limit, progress, plain=plain)
        return httpcore2.AsyncHTTPConnection(
            url.origin,
            ssl_context=None if plain else self._context(origin_of(outgoing.url)),
            http1=True,
            http2=False,
            retries=0,
            network_backend=network,
        )

    def _context(self, origin: str) -> ssl.SSLContext:
        ca_file = self._ca_files.get(origin)
        if ca_file not in self._contexts:
            if ca_file is None:
                context = httpx2.create_ssl_context(trust_env=False)
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.load_verify_locations(ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._contexts[ca_file] = context
        return self._contexts[ca_file]


def _cause(error: Exception, progress: Progress) -> str:
    if isinstance(error, TimeoutError | httpcore2.TimeoutException):
        return "timeout"
    return "malformed" if isinstance(error, httpcore2.ProtocolError) and not progress.ended else "reset"


def _url(url: str) -> httpcore2.URL:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore2.URL(
        scheme=parts.scheme.encode(),
        host=(parts.hostname or "").encode(),
        port=parts.port or (80 if parts.scheme == "http" else 443),
        target=target.encode(),
    )


def _request(outgoing: Outgoing, trace: Callable[[str, Mapping[str, object]], Awaitable[None]]) -> httpcore2.Request:
    headers = {
        "host": origin_of(outgoing.url).partition("://")[2],
        **outgoing.headers,
        "accept-encoding": "identity",
        "connection": "close",
        "content-length": str(len(outgoing.body)),
        "user-agent": "aries-broker",
    }
    return httpcore2.Request(
        outgoing.method,
        _url(outgoing.url),
        headers=list(headers.items()),
        content=outgoing.body,
        extensions={"trace": trace},
    )


async def _read(response: httpcore2.Response, progress: Progress) -> HttpReply:
    headers: dict[str, str] = {}
    for name, value in response.headers:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    progress.head = HttpReply(response.status, headers, b"")
    async for chunk in response.aiter_stream():
        progress.body += chunk
        if len(progress.body) > MAX_REPLY:
            raise progress.failed("too_large")
    return HttpReply(response.status, headers, bytes(progress.body))
