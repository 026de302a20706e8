"""Probes and metrics over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest

from broker.web.app import build_app
from broker.web.server import WebServer


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


async def test_an_address_in_use_is_an_error(live: Live) -> None:
    """The listener says so instead of serving nothing."""
    port = live.client.base_url.port
    app = build_app(not_ready=str, metrics=lambda: asyncio.sleep(0, b""), metrics_type="text/plain")
    with pytest.raises(OSError, match="in use"):
        await WebServer(app, f"127.0.0.1:{port}").start()
