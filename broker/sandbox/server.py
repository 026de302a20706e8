"""Serving the sandbox on a loopback address."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from broker.sandbox.app import MARK, create_app
from broker.sandbox.config import SandboxConfig
from broker.sandbox.state import State
from broker.sandbox.token_endpoint import TOKEN_PATH

STOP_SECONDS = 2.0


@dataclass
class RunningSandbox:
    """A sandbox that serves; `stop` ends it."""

    url: str
    app: Starlette
    _server: asyncio.Server
    _connections: ServerState

    @property
    def state(self) -> State:
        """The sandbox's memory, for tests in the same process."""
        return cast("State", self.app.state.sandbox)

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return self.url + TOKEN_PATH

    @property
    def admin_token(self) -> str:
        """The bearer token of the admin endpoint."""
        return self.state.config.admin_token

    async def stop(self) -> None:
        """Stop listening, let running calls end (2 seconds at most), close every connection."""
        self._server.close()
        self.state.released.set()
        protocols = [cast("_Protocol", connection) for connection in self._connections.connections]
        for protocol in protocols:
            protocol.shutdown()
        if self._connections.tasks:
            _, late = await asyncio.wait(self._connections.tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
        for protocol in protocols:
            protocol.transport.abort()
        await self._server.wait_closed()


async def serve(config: SandboxConfig, host: str = "127.0.0.1", port: int = 0) -> RunningSandbox:
    """Start serving in the running event loop; port 0 takes a free one.

    Raises:
        ValueError: the host is not a loopback address.
        OSError: the address cannot be bound.
    """
    address = _loopback(host)
    is_ipv6 = isinstance(address, ipaddress.IPv6Address)
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without it every second reply waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except OSError:
        listener.close()
        raise
    shown = f"[{address}]" if is_ipv6 else str(address)
    url = f"http://{shown}:{listener.getsockname()[1]}"
    app = create_app(dataclasses.replace(config, issuer=config.issuer or url))
    settings = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    connections = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Protocol(settings, connections, {}),
        sock=listener,
        backlog=2048,
    )
    return RunningSandbox(url, app, server, connections)


def run(config: SandboxConfig, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve until SIGTERM or SIGINT; prints one line when ready.

    Raises:
        ValueError: the host is not a loopback address.
        OSError: the address cannot be bound, or `admin_token_file` is there already.
    """
    asyncio.run(_run(config, host, port))


async def _run(config: SandboxConfig, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sandbox = await serve(config, host, port)
    try:
        if config.admin_token_file is None:
            location = f"admin token {sandbox.admin_token}"
        else:
            _write_secret(config.admin_token_file, sandbox.admin_token)
            location = f"admin token in {config.admin_token_file}"
        print(f"sandbox ready at {sandbox.url}, {location}", flush=True)  # noqa: T201, the command's output
        await stop.wait()
    finally:
        await sandbox.stop()


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ValueError(f"{host} is not an IP address") from error
    if not address.is_loopback:
        raise ValueError(f"the sandbox serves loopback addresses only, not {host}")
    return address


class _Protocol(H11Protocol):
    """uvicorn's HTTP protocol, with the transport within reach of failures that close the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP: marked like every other reply."""
        head = f"HTTP/1.1 400 Bad Request\r\n{MARK[0]}: {MARK[1]}\r\nConnection: close\r\nContent-Length: {len(msg)}"
        self.transport.write(f"{head}\r\n\r\n{msg}".encode("ascii"))
        self.transport.close()
