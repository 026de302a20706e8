"""Starlette on uvicorn, in the broker's own loop; signals, logs and the loop stay the broker's."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 100
"""Probes and scrapes need a handful; past it the oldest that asks nothing is hung up on, so that a probe gets in."""

PATIENCE: Final = 5.0
"""Seconds a connection has for a request, from connecting or from the answer before to the end of its own answer."""

MAX_HEAD: Final = 8 * 1024
"""Longest request, in bytes: its line and fields, for nothing here takes a body."""

_COSTLY: Final = re.compile(rb"\n[ \t]|[ \t]{65}")
"""A folded line, or many blanks in one: h11's expressions take the square of them, and no probe sends either."""


class _Protocol(H11Protocol):
    """One connection; whoever is slow or idle on it loses it."""

    def __init__(self, *args: Any, patience: float, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's, passed on
        super().__init__(*args, **kwargs)
        self._patience = patience
        self._since = 0.0
        self._giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, in place of another where there are enough."""
        super().connection_made(transport)
        self._expect_request()
        others = [one for one in self.connections if isinstance(one, _Protocol) and one.is_open and one is not self]
        if len(others) >= MAX_CONNECTIONS:
            min(others, key=lambda one: (one.is_answering, one._since)).transport.abort()  # noqa: SLF001 - its own kind

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hang up on who sends more at once than a request, or what takes long to parse."""
        pending = self.conn.trailing_data[0] + data
        if len(pending) > MAX_HEAD or _COSTLY.search(pending):
            self.transport.close()
        else:
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request as long as for the first."""
        self._expect_request()
        super().on_response_complete()

    @property
    def is_open(self) -> bool:
        """Whether it is not being closed already."""
        return not self.transport.is_closing()

    @property
    def is_answering(self) -> bool:
        """Whether a request came, all of it, that is not answered yet: who owes its body only makes us wait."""
        if self.cycle is None:
            return False  # type: ignore[unreachable]  # None at first
        return not self.cycle.more_body and not self.cycle.response_complete

    def _expect_request(self) -> None:
        self._stop_timer()
        self._since = self.loop.time()
        # Aborted, not closed: what is unsent would be waited for, and that may be what takes so long.
        self._giving_up = self.loop.call_later(self._patience, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the broker."""
        yield


class WebServer:
    """One HTTP listener."""

    def __init__(self, app: Starlette, address: str, *, patience: float = PATIENCE) -> None:
        """Wire it; nothing is bound before `start`.

        Args:
            app: what answers.
            address: host:port; port 0 takes a free one.
            patience: seconds a connection has for a request and its answer.
        """
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        config = uvicorn.Config(
            app,
            access_log=False,  # query strings are never logged
            log_config=None,
            server_header=False,
            proxy_headers=False,  # X-Forwarded-For is anybody's claim
            lifespan="off",
            ws="none",
            http=partial(_Protocol, patience=patience),  # type: ignore[arg-type]  # it is only called
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = _Uvicorn(config)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Bind, serve, and return the port.

        Raises:
            OSError: the address cannot be had.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.create_server((self._host, self._port), family=family)
        port: int = listening.getsockname()[1]
        self._running = asyncio.create_task(self._uvicorn.serve(sockets=[listening]))
        return port

    async def stop(self) -> None:
        """Stop listening and wait for answers under way, a second at most."""
        if self._running is not None:
            self._uvicorn.should_exit = True
            await self._running
