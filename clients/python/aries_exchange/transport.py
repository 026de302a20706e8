"""Sends requests and returns what is in the replies; no redirect is followed, as a token goes to one place alone."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx2

from aries_exchange.errors import AriesAPIError, AriesConnectionError, parse_error
from aries_exchange.timing import Timing

CONNECT_SECONDS: Final = 10.0
REPLY_SECONDS: Final = 30.0
MAX_BODY: Final = 8 * 1024 * 1024
"""Longest reply, in bytes."""
_OK: Final = range(200, 300)

UNSENT: Final = "the API could not be reached: nothing was sent"
BROKEN: Final = "the connection ended before the whole answer was there"
IN_DOUBT: Final = f"{BROKEN}: the request may have taken effect, so look before it is made again"


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        url: the whole URL, without what is secret.
        body: sent as JSON.
        query: parameters of the URL.
        bearer: the access token it carries.
        secrets: of what is sent, that which no message may hold; the bearer is one by itself.
    """

    method: str
    url: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    query: Mapping[str, str | int] | None = None
    bearer: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class _Answer:
    status_code: int
    headers: httpx2.Headers
    body: bytes = field(repr=False)


class Transport:
    """Sends requests over kept connections; safe to share between threads."""

    def __init__(self, timing: Timing, *, max_body: int = MAX_BODY, proxies: bool = True) -> None:
        """Set it up; connections are made when they are needed.

        Args:
            timing: the time replies may take is taken by it.
            max_body: longest reply, in bytes.
            proxies: whether the environment says by which proxy TLS goes, and which authorities are trusted.
        """
        self._timing = timing
        self._max_body = max_body
        self._proxies = proxies
        self._lock = threading.Lock()
        self._clients: dict[bool, httpx2.Client] = {}

    def send(self, request: Request) -> Mapping[str, Any]:
        """Send it once, and return the JSON object that was answered.

        Raises:
            AriesAPIError: it was refused.
            AriesConnectionError: there was no whole answer.
        """
        answer = self._answer(request)
        if answer.status_code not in _OK:
            secrets = (*request.secrets, request.bearer or "")
            raise parse_error(answer.status_code, answer.body, answer.headers, secrets)
        return _parse_object(answer)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()

    def _client(self, url: str) -> httpx2.Client:
        """Return what sends to this URL, made when it is first needed.

        Without TLS only this machine is reached: no proxy of the environment sees that, and no authorities are loaded.
        """
        tls = url.startswith("https:")
        with self._lock:
            if tls not in self._clients:
                self._clients[tls] = httpx2.Client(
                    timeout=httpx2.Timeout(REPLY_SECONDS, connect=CONNECT_SECONDS),
                    verify=True if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                    trust_env=tls and self._proxies,
                    follow_redirects=False,
                    # Several people may log in through one client: none gets another's cookie.
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                )
            return self._clients[tls]

    def _answer(self, request: Request) -> _Answer:
        headers = {"Accept": "application/json"}
        if request.bearer is not None:
            headers["Authorization"] = f"Bearer {request.bearer}"
        try:
            with self._client(request.url).stream(
                request.method, request.url, json=request.body, params=request.query, headers=headers
            ) as response:
                return _Answer(response.status_code, response.headers, self._read(response))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol):
            raise AriesConnectionError(0, UNSENT, sent=False) from None
        except (httpx2.TransportError, httpx2.DecodingError):
            raise AriesConnectionError(0, BROKEN if request.method == "GET" else IN_DOUBT) from None

    def _read(self, response: httpx2.Response) -> bytes:
        """Return the body, unless it is too long or takes too long altogether."""
        ends_at = self._timing.monotonic() + REPLY_SECONDS
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._max_body or self._timing.monotonic() > ends_at:
                message = "the answer is too long"
                raise httpx2.ReadError(message)
        return bytes(body)


def _parse_object(answer: _Answer) -> Mapping[str, Any]:
    try:
        parsed = json.loads(answer.body)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, Mapping):
        raise AriesAPIError(answer.status_code, "the answer is no JSON object", answer.headers)
    return parsed
