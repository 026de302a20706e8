"""Starlette on uvicorn, in the broker's own loop; signals, logs and the loop stay the broker's."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 100
"""Probes and scrapes need a handful; more are answered 503."""

MAX_HEAD: Final = 8 * 1024
"""Longest request, in bytes: its line and fields, for nothing here takes a body."""

_COSTLY: Final = re.compile(rb"\n[ \t]|[ \t]{65}")
"""A folded line, or many blanks in one: h11's expressions take the square of them, and no probe sends either."""


class _Protocol(H11Protocol):
    def data_received(self, data: bytes) -> None:
        """Hang up on who sends more at once than a request, or what takes long to parse."""
        pending = self.conn.trailing_data[0] + data
        if len(pending) > MAX_HEAD or _COSTLY.search(pending):
            self.transport.close()
        else:
            super().data_received(data)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the broker."""
        yield


class WebServer:
    """One HTTP listener."""

    def __init__(self, app: Starlette, address: str) -> None:
        """Wire it; `address` is host:port, port 0 takes a free one. Nothing is bound before `start`."""
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
            http=_Protocol,
            limit_concurrency=MAX_CONNECTIONS,
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
