"""Probes and metrics over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest

from broker.web.app import build_app
from broker.web.server import MAX_HEAD, WebServer


@dataclass
class Live:
    """A served app and what it is told."""

    client: httpx2.AsyncClient
    reason: str = ""


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    """Serve the app on a free port."""

    async def metrics() -> bytes:
        return b"aries_broker_store_up 1.0\n"

    app = build_app(not_ready=lambda: state.reason, metrics=metrics, metrics_type="text/plain; version=1.0.0")
    server = WebServer(app, "127.0.0.1:0")
    port = await server.start()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        state = Live(client)
        yield state
    await server.stop()


async def test_liveness_depends_on_nothing(live: Live) -> None:
    """A process that drains or starts is alive."""
    live.reason = "draining"
    reply = await live.client.get("/livez")
    assert (200, "ok\n") == (reply.status_code, reply.text)


@pytest.mark.parametrize(("reason", "status"), [("", 200), ("starting", 503), ("keys", 503), ("draining", 503)])
async def test_readiness_says_why_not(live: Live, reason: str, status: int) -> None:
    """Started, keys open, not draining."""
    live.reason = reason
    reply = await live.client.get("/readyz")
    assert (status, f"{reason or 'ok'}\n") == (reply.status_code, reply.text)


async def test_the_metrics_page(live: Live) -> None:
    """The page as rendered, with its own content type, and nothing that names the server."""
    reply = await live.client.get("/metrics")
    assert "aries_broker_store_up 1.0\n" == reply.text
    assert reply.headers["content-type"].startswith("text/plain; version=1.0.0")
    assert "server" not in reply.headers


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/metrics", 405), ("GET", "/", 404), ("GET", "/docs", 404)]
)
async def test_there_is_nothing_else(live: Live, method: str, path: str, status: int) -> None:
    """Only the three pages, only for reading."""
    assert status == (await live.client.request(method, path)).status_code


async def test_requests_are_not_logged(live: Live, capfd: pytest.CaptureFixture[str]) -> None:
    """A query string appears nowhere."""
    await live.client.get("/livez?code=canary")
    assert "canary" not in "".join(capfd.readouterr())


HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


async def answer(live: Live, *pieces: bytes) -> bytes:
    """Return all that comes back for a request sent piece by piece."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.client.base_url.port)
    with contextlib.suppress(OSError):  # it may hang up in the middle
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
    with contextlib.closing(writer):
        try:
            return await reader.read()
        except OSError:
            return b""


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"a:" + b" " * 1_000_000 + b"\x00\r\n\r\n"],
        [HEAD + b"a:" + b" " * 65 + b"\r\n\r\n"],
        [HEAD + b"a:", *([b"\t"] * 65), b"\r\n\r\n"],
        [HEAD + b"a:\r\n" + b" \r\n" * 1000 + b"\x00\r\n\r\n"],
        [HEAD, *([b"a: b\r\n"] * (MAX_HEAD // 6)), b"\r\n"],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000],
    ],
    ids=["blanks", "few-blanks", "blanks-in-pieces", "folds", "long", "chunks"],
)
async def test_what_would_take_long_to_parse_is_not_parsed(live: Live, pieces: list[bytes]) -> None:
    """Whoever sends it is hung up on: one request of 60 KiB of blanks would stop the broker for 20 seconds."""
    assert b"" == await answer(live, *pieces)


async def test_what_a_probe_sends_is_parsed(live: Live) -> None:
    """Also in pieces, with long fields and some blanks."""
    raw = HEAD + b"a: " + b"x" * 7_000 + b" " * 60 + b"y\r\nConnection: close\r\n\r\n"
    assert b"HTTP/1.1 200 OK" == (await answer(live, raw[:30], raw[30:31], raw[31:])).partition(b"\r\n")[0]


async def test_an_address_in_use_is_an_error(live: Live) -> None:
    """The listener says so instead of serving nothing."""
    port = live.client.base_url.port
    app = build_app(not_ready=str, metrics=lambda: asyncio.sleep(0, b""), metrics_type="text/plain")
    with pytest.raises(OSError, match="in use"):
        await WebServer(app, f"127.0.0.1:{port}").start()
