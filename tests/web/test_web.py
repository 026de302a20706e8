"""Probes and metrics over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx2
import pytest

from broker.web.app import build_app
from broker.web.server import MAX_CONNECTIONS, MAX_HEAD, PATIENCE, WebServer
from tests.support.sandbox import NO_AUTHORITIES
from tests.support.waiting import ENOUGH, until


@dataclass
class Live:
    """A served app and what it is told."""

    client: httpx2.AsyncClient
    server: WebServer
    reason: str = ""
    page: bytes = b"aries_broker_store_up 1.0\n"
    pages: int = 0
    before_page: Callable[[], Awaitable[object]] | None = None


@pytest.fixture
async def live(request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    """Serve the app on a free port; the parameter is its patience."""

    async def metrics() -> bytes:
        state.pages += 1
        if state.before_page is not None:
            await state.before_page()
        return state.page

    app = build_app(not_ready=lambda: state.reason, metrics=metrics, metrics_type="text/plain; version=1.0.0")
    server = WebServer(app, "127.0.0.1:0", patience=getattr(request, "param", PATIENCE))
    port = await server.start()
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=NO_AUTHORITIES
    ) as client:
        state = Live(client, server)
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


async def _connected(live: Live, count: int, *pieces: bytes) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Return connections that sent something and wait, with little room for answers."""
    made = []
    for _ in range(count):
        connecting = socket.socket()
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connecting.setblocking(False)  # noqa: FBT003 - the standard library's signature
        await asyncio.get_running_loop().sock_connect(connecting, ("127.0.0.1", live.client.base_url.port))
        made.append(await asyncio.open_connection(sock=connecting))
    for _, writer in made:
        writer.writelines(pieces)
    return made


async def _is_hung_up(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(65536), ENOUGH):
            pass
    return True


@pytest.mark.parametrize(
    "sent",
    [b"", HEAD, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20],
    ids=["idle", "half-a-request", "answers-not-read"],
)
async def test_a_flood_of_connections_keeps_no_probe_out(live: Live, sent: bytes) -> None:
    """Past the most there may be the oldest are hung up on, and who asks is answered."""
    live.page = b"x" * 500_000
    flood = await _connected(live, MAX_CONNECTIONS + 50, sent)
    assert [200] * 3 == [(await live.client.get("/livez")).status_code for _ in range(3)]
    assert all([await _is_hung_up(reader) for reader, _ in flood[:50]])
    for _, writer in flood:
        writer.close()


async def test_who_asks_nothing_goes_before_who_waits_for_an_answer(live: Live) -> None:
    """An answer that takes its time is not what makes room for others."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        asked.set()
        await go_on.wait()

    live.before_page = slowly
    scrape = asyncio.ensure_future(live.client.get("/metrics"))
    await asked.wait()
    flood = await _connected(live, MAX_CONNECTIONS)
    assert await _is_hung_up(flood[0][0])
    go_on.set()
    assert 200 == (await scrape).status_code
    for _, writer in flood:
        writer.close()


async def test_half_a_request_asks_nothing(live: Live) -> None:
    """Who never sends the body that was announced goes before who waits for an answer."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        asked.set()
        await go_on.wait()

    live.before_page = slowly
    scrape = asyncio.ensure_future(live.client.get("/metrics"))
    await asked.wait()
    half = b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    flood = await _connected(live, MAX_CONNECTIONS - 1, half)
    await until(lambda: len(live.server._uvicorn.server_state.tasks) == MAX_CONNECTIONS)
    flood += await _connected(live, 1)
    assert await _is_hung_up(flood[0][0])
    go_on.set()
    assert 200 == (await scrape).status_code
    for _, writer in flood:
        writer.close()


@pytest.mark.parametrize("live", [0.2], indirect=True)
@pytest.mark.parametrize(
    "before", [b"", HEAD, HEAD + b"\r\n", HEAD + b"Content-Length: 9\r\n\r\n"], ids=["new", "head", "again", "body"]
)
async def test_whoever_drips_is_hung_up_on(live: Live, before: bytes) -> None:
    """A request has its time, whole, however its bytes come: none of them is worth more of it."""
    [(reader, writer)] = await _connected(live, 1, before)
    hung_up = asyncio.ensure_future(_is_hung_up(reader))
    with contextlib.suppress(ConnectionError):
        while not hung_up.done():
            writer.write(b"G")
            await asyncio.wait([hung_up], timeout=0.01)
    assert await hung_up
    writer.close()


async def test_scrapes_at_once_share_a_page(live: Live) -> None:
    """Many who ask, or ask and leave, cost what one does; the next to ask gets a new page."""
    go_on = asyncio.Event()
    live.before_page = go_on.wait
    scrapes = [asyncio.ensure_future(live.client.get("/metrics")) for _ in range(20)]
    gone = await _connected(live, 5, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    for _, writer in gone:
        writer.close()
    await until(lambda: len(live.server._uvicorn.server_state.tasks) == 25)
    go_on.set()
    assert {200} == {(await scrape).status_code for scrape in scrapes}
    assert 1 == live.pages
    await live.client.get("/metrics")
    assert 2 == live.pages


async def test_an_address_in_use_is_an_error(live: Live) -> None:
    """The listener says so instead of serving nothing."""
    port = live.client.base_url.port
    app = build_app(not_ready=str, metrics=lambda: asyncio.sleep(0, b""), metrics_type="text/plain")
    with pytest.raises(OSError, match="in use"):
        await WebServer(app, f"127.0.0.1:{port}").start()
