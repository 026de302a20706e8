"""The token endpoint's adapter over real sockets, against servers that do everything wrong."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import ipaddress
import json
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from broker.adapters.egress import Address, check_addresses
from broker.adapters.http_exchange import HttpExchange, Outgoing
from broker.adapters.http_reply import MAX_REPLY
from broker.adapters.provider_http import ProviderHttp
from broker.core.models import Client, GrantType, Origin, Provider, TokenEndpointAuth
from broker.core.oauth.reply import Reading, read_reply
from broker.core.oauth.rfc6749 import (
    ClientProof,
    HttpReply,
    HttpRequest,
    RefreshToken,
    SendFailure,
    build_token_request,
)
from broker.core.secret import Secret
from broker.ports import NotSentError, ReplyLostError
from tests.support.raw_server import Connection, Script, answering, http, raw_server
from tests.support.waiting import ENOUGH

SOON = 0.08
"""Seconds: a deadline that is meant to pass."""
LONG = ENOUGH / 2
TOKENS = json.dumps({"access_token": "at", "token_type": "Bearer", "expires_in": 60, "refresh_token": "rt-2"}).encode()
JSON = "Content-Type: application/json"
GOOD = http("200 OK", TOKENS, JSON)


def provider_at(token_url: str, *, insecure_loopback: bool = True) -> Provider:
    """Return a provider with this token endpoint."""
    return Provider(
        id="p1",
        name="p",
        origin=Origin.FILE,
        preset="generic",
        issuer="https://as.test",
        token_url=token_url,
        token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_BASIC,
        scopes={},
        insecure_loopback=insecure_loopback,
    )


def request_to(provider: Provider) -> HttpRequest:
    """Return a refresh request."""
    client = Client(id="c1", name="c", origin=Origin.FILE, provider="p", client_id="desk")
    proof = ClientProof(provider.token_endpoint_auth, client.client_id, Secret("hush"), None)
    return build_token_request(provider, RefreshToken(Secret("rt-1")), proof)


@dataclass
class Sent:
    """What became of one send."""

    result: HttpReply | SendFailure
    reading: Reading
    hook_calls: int = 0


async def send(
    url: str,
    *,
    exchange: HttpExchange | None = None,
    deadline: float = LONG,
    insecure_loopback: bool = True,
) -> Sent:
    """Send one refresh request and read what came of it, as the flow does."""
    provider = provider_at(url, insecure_loopback=insecure_loopback)
    calls = 0

    async def before_write() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)

    result: HttpReply | SendFailure
    try:
        result = await ProviderHttp(exchange or HttpExchange()).send(
            provider, request_to(provider), before_write=before_write, reply_deadline=deadline
        )
    except NotSentError as error:
        result = SendFailure(sent=False, cause=error.cause)
    except ReplyLostError as error:
        result = SendFailure(sent=True, cause=error.cause, partial=error.partial)
    reading = read_reply(result, grant_type=GrantType.REFRESH_TOKEN, provider=provider, sent_at=0, now=0)
    return Sent(result, reading, calls)


async def exchanged(script: Script, deadline: float = LONG) -> Sent:
    """Send one request to a scripted plain server on loopback."""
    async with raw_server(script) as server:
        return await send(f"http://127.0.0.1:{server.port}/token", deadline=deadline)


async def test_the_request_goes_out_as_built() -> None:
    """The request is one POST with the built headers and body, asks for no encoding and no keep-alive."""
    async with raw_server(answering(GOOD)) as server:
        sent = await send(f"http://127.0.0.1:{server.port}/token?x=1")
        head, _, body = bytes(server.connections[0].received).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert "POST /token?x=1 HTTP/1.1" == lines[0]
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert {
        "host": f"127.0.0.1:{server.port}",
        "accept": "application/json",
        "authorization": "basic zgvzazpodxno",
        "content-type": "application/x-www-form-urlencoded",
        "accept-encoding": "identity",
        "connection": "close",
        "content-length": str(len(body)),
        "user-agent": "aries-broker",
    } == headers
    assert b"grant_type=refresh_token&refresh_token=rt-1" == body
    assert (HttpReply(200, {"content-length": str(len(TOKENS)), "content-type": "application/json"}, TOKENS), 1) == (
        sent.result,
        sent.hook_calls,
    )


async def _drip(connection: Connection) -> None:
    await connection.asked.wait()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n")
    while not await connection.gone_within(0.005):
        await connection.send(b" ")


async def _silent(connection: Connection) -> None:
    await connection.closed.wait()


async def _reset(connection: Connection) -> None:
    await connection.asked.wait()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{")
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.transport.abort()


def _endless(start: bytes, again: bytes) -> Script:
    """Return a script that answers with `start` and then with `again` for ever."""

    async def script(connection: Connection) -> None:
        await connection.asked.wait()
        await connection.send(start)
        while not connection.closed.is_set():
            await connection.send(again)

    return script


async def _before_the_request(connection: Connection) -> None:
    await connection.send(http("503 Service Unavailable", b"busy"))
    await connection.closed.wait()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + JSON.encode() + b"\r\n\r\n"
HUGE = b"x" * (10 * 1024 * 1024)


@pytest.mark.parametrize(
    ("script", "deadline", "outcome", "cause"),
    [
        (answering(GOOD), LONG, "landed", ""),
        (
            answering(
                CHUNKED + b"".join(b"%x\r\n%b\r\n" % (1, TOKENS[i : i + 1]) for i in range(len(TOKENS))) + b"0\r\n\r\n"
            ),
            LONG,
            "landed",
            "",
        ),
        (answering(http("500 Internal Server Error", b"boom")), LONG, "unknown", "status_5xx"),
        (answering(http("429 Too Many Requests", b"", "Retry-After: 7")), LONG, "not_consumed", "throttled"),
        (
            answering(http("401 Unauthorized", b'{"error":"invalid_client"}', JSON)),
            LONG,
            "not_consumed",
            "invalid_client",
        ),
        (answering(http("400 Bad Request", b'{"error":"invalid_grant"}', JSON)), LONG, "refused", "invalid_grant"),
        (answering(http("200 OK", b"<html>", "Content-Type: text/html")), LONG, "unknown", "malformed"),
        (answering(http("302 Found", b"", "Location: http://169.254.169.254/")), LONG, "unknown", "status_3xx"),
        (answering(http("307 Temporary Redirect", b"", "Location: /token")), LONG, "unknown", "status_3xx"),
        (answering(http("200 OK", HUGE, JSON)), LONG, "unknown", "too_large"),
        (answering(http("200 OK", TOKENS + b" " * MAX_REPLY, JSON)), LONG, "landed", "too_large"),
        (answering(http("200 OK", gzip.compress(TOKENS), JSON, "Content-Encoding: gzip")), LONG, "landed", "encoded"),
        (answering(GOOD[:-1]), LONG, "landed", "reset"),
        (answering(CHUNKED + b"5\r\nabcde\r\n"), LONG, "unknown", "reset"),
        (answering(CHUNKED + b"zz\r\n"), LONG, "unknown", "malformed"),
        (answering(b"SSH-2.0-OpenSSH\r\n\r\n"), LONG, "unknown", "malformed"),
        (answering(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40_000), LONG, "unknown", "malformed"),
        (answering(b""), LONG, "unknown", "reset"),
        (_reset, LONG, "unknown", "reset"),
        (_before_the_request, LONG, "unknown", "status_5xx"),
        (_endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), LONG, "unknown", "malformed"),
        (_endless(b"HTTP/1.1 200 OK\r\nx:", b" " * 1000), LONG, "unknown", "malformed"),
        (_endless(CHUNKED, b"1\r\n \r\n" * 1000), LONG, "unknown", "too_large"),
        (
            _endless(CHUNKED + b"%x\r\n%b\r\n" % (len(TOKENS), TOKENS), b"1\r\n \r\n" * 1000),
            LONG,
            "landed",
            "too_large",
        ),
        (_silent, SOON, "unknown", "timeout"),
        (_drip, SOON, "unknown", "timeout"),
    ],
    ids=[
        "good",
        "chunked",
        "500",
        "429",
        "401",
        "invalid_grant",
        "html",
        "redirect",
        "redirect-same-origin",
        "10-mb",
        "token-then-too-large",
        "gzip",
        "cut-short",
        "chunked-cut",
        "chunked-wrong",
        "not-http",
        "huge-head",
        "closed",
        "reset",
        "reply-before-request",
        "interim-replies-for-ever",
        "blanks-for-ever",
        "one-byte-chunks-for-ever",
        "token-then-one-byte-chunks-for-ever",
        "silent",
        "drip",
    ],
)
async def test_each_answer_has_one_reading(script: Script, deadline: float, outcome: str, cause: str) -> None:
    """Whatever a server does after the write, there is one reading of it, in time."""
    sent = await asyncio.wait_for(exchanged(script, deadline), ENOUGH)
    assert (outcome, cause, 1) == (sent.reading.outcome, sent.reading.cause, sent.hook_calls)


async def test_nothing_is_sent_twice_and_no_connection_is_kept() -> None:
    """Two sends are two connections with one request each, though the server would keep the first one open."""

    async def keep_alive(connection: Connection) -> None:
        await connection.asked.wait()
        await connection.send(http("200 OK", TOKENS, JSON, "Connection: keep-alive"))
        await connection.closed.wait()

    async with raw_server(keep_alive) as server:
        endpoint = HttpExchange()
        for _ in range(2):
            await send(f"http://127.0.0.1:{server.port}/token", exchange=endpoint)
        for connection in server.connections:
            await asyncio.wait_for(connection.closed.wait(), ENOUGH)
        assert [1, 1] == [bytes(connection.received).count(b"POST ") for connection in server.connections]


async def test_a_redirect_is_not_followed() -> None:
    """A redirect to another path of the same server brings no second request."""
    async with raw_server(answering(http("307 Temporary Redirect", b"", "Location: /elsewhere"))) as server:
        await send(f"http://127.0.0.1:{server.port}/token")
        assert 1 == len(server.connections)


class _WithholdError(TimeoutError):
    """Looks like a time-out of the transport, and is not."""


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_what_the_hook_raises_comes_out_and_nothing_was_written(
    tls: bool, authority: trustme.CA, tmp_path: Path
) -> None:
    """When before_write raises, not a byte of the request leaves and its exception comes out unchanged."""
    error = _WithholdError("withheld")

    async with raw_server(_silent, tls=server_context(authority, "127.0.0.1") if tls else None) as server:

        async def before_write() -> None:
            await server.first()
            raise error

        provider = provider_at(f"{'https' if tls else 'http'}://127.0.0.1:{server.port}/token")
        endpoint = ProviderHttp(trusting(authority, tmp_path, provider.token_url))
        with pytest.raises(_WithholdError) as raised:
            await endpoint.send(provider, request_to(provider), before_write=before_write, reply_deadline=LONG)
        await asyncio.wait_for(server.connections[0].closed.wait(), ENOUGH)
        assert (error, b"") == (raised.value, bytes(server.connections[0].received))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_the_write_is_in_the_step_in_which_the_hook_returns(
    tls: bool, authority: trustme.CA, tmp_path: Path
) -> None:
    """Nothing else runs on the event loop between the hook's return and the write of the first byte."""
    seen: list[str] = []
    loop = asyncio.get_running_loop()

    async def before_write() -> None:
        await asyncio.sleep(0)
        loop.call_soon(seen.append, "another step")

    async with raw_server(answering(GOOD), tls=server_context(authority, "127.0.0.1") if tls else None) as server:
        provider = provider_at(f"{'https' if tls else 'http'}://127.0.0.1:{server.port}/token")
        endpoint = ProviderHttp(trusting(authority, tmp_path, provider.token_url))
        with pytest.MonkeyPatch.context() as patch:
            write = asyncio.StreamWriter.write

            def noted(writer: asyncio.StreamWriter, data: bytes) -> None:
                if data.startswith(b"POST "):
                    seen.append("write")
                write(writer, data)

            patch.setattr(asyncio.StreamWriter, "write", noted)
            await endpoint.send(provider, request_to(provider), before_write=before_write, reply_deadline=LONG)
    assert ["write", "another step"] == seen


async def test_the_connection_is_ready_before_the_hook(authority: trustme.CA, tmp_path: Path) -> None:
    """The hook is awaited on a connection whose TLS is done, and its time counts against no limit."""
    versions: list[str | None] = []
    limit = 1.0  # seconds; a busy machine shakes hands within them

    async with raw_server(answering(GOOD), tls=server_context(authority, "127.0.0.1")) as server:
        provider = provider_at(f"https://127.0.0.1:{server.port}/token")

        async def before_write() -> None:
            connection = await server.first()
            versions.append(connection.writer.get_extra_info("ssl_object").version())
            assert not await connection.gone_within(limit * 1.2)

        endpoint = ProviderHttp(trusting(authority, tmp_path, provider.token_url, connect_limit=limit))
        reply = await endpoint.send(provider, request_to(provider), before_write=before_write, reply_deadline=LONG)
    assert (200, ["TLSv1.3"]) == (reply.status, versions)


async def test_cancelling_closes_the_socket() -> None:
    """A cancelled send closes its connection at once."""
    async with raw_server(_silent) as server:
        task = asyncio.create_task(send(f"http://127.0.0.1:{server.port}/token"))
        await (await server.first()).asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.connections[0].closed.wait(), ENOUGH)


# --- before the first byte -------------------------------------------------------------------------------------------


def resolving(*addresses: str) -> HttpExchange:
    """Return an exchange for which every name has these addresses."""

    async def resolve(_: str, __: int) -> Sequence[Address]:
        return [ipaddress.ip_address(address) for address in addresses]

    return HttpExchange(resolve=resolve, connect_limit=1)


async def test_a_refused_connection() -> None:
    """A closed port is a connection not made."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        sent = await send(f"http://127.0.0.1:{unused.getsockname()[1]}/token")
    assert ("not_sent", "connect", 0) == (sent.reading.outcome, sent.reading.cause, sent.hook_calls)


async def test_an_unknown_name() -> None:
    """A name that does not resolve is a DNS failure."""
    sent = await send("https://nobody.invalid/token")
    assert ("not_sent", "dns", 0) == (sent.reading.outcome, sent.reading.cause, sent.hook_calls)


async def test_a_silent_resolver() -> None:
    """Name resolution is inside the connection's limit."""

    async def resolve(_: str, __: int) -> Sequence[Address]:
        await asyncio.Event().wait()  # for ever
        return []

    sent = await send("https://slow.test/token", exchange=HttpExchange(resolve=resolve, connect_limit=SOON))
    assert ("not_sent", "timeout", 0) == (sent.reading.outcome, sent.reading.cause, sent.hook_calls)


async def test_a_silent_handshake(authority: trustme.CA, tmp_path: Path) -> None:
    """A server that accepts and never shakes hands is inside the connection's limit, and its socket is closed."""
    async with raw_server(_silent) as server:
        url = f"https://127.0.0.1:{server.port}/token"
        sent = await send(url, exchange=trusting(authority, tmp_path, url, connect_limit=SOON))
        await asyncio.wait_for(server.connections[0].closed.wait(), ENOUGH)
    assert ("not_sent", "timeout", 0) == (sent.reading.outcome, sent.reading.cause, sent.hook_calls)


async def test_a_silent_address() -> None:
    """An address that does not answer is given up within the connection's limit."""
    with socket.socket() as full, contextlib.ExitStack() as fillers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # the queue of a listener that accepts nobody is full, and further calls are dropped
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003 - the standard library's signature
            filler.connect_ex(full.getsockname())
        exchange = HttpExchange(connect_limit=SOON)
        sent = await send(f"http://127.0.0.1:{full.getsockname()[1]}/token", exchange=exchange)
    assert ("not_sent", "timeout", 0) == (sent.reading.outcome, sent.reading.cause, sent.hook_calls)


async def test_a_process_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no socket can be had nothing was sent, and it is said in the port's words."""

    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("broker.adapters.egress.socket.socket", none_left)
    sent = await send("https://as.test/token", exchange=resolving("127.0.0.1"))
    assert ("not_sent", "connect", 0) == (sent.reading.outcome, sent.reading.cause, sent.hook_calls)


async def _slam(connection: Connection) -> None:
    connection.writer.transport.abort()


async def test_a_connection_that_died_before_the_write_was_never_written_to() -> None:
    """When the peer is gone by the time the hook returns, nothing was sent."""
    async with raw_server(_slam) as server:
        provider = provider_at(f"http://127.0.0.1:{server.port}/token")

        async def before_write() -> None:
            await server.first()
            for _ in range(20):  # steps of the loop in which both sides learn of it
                await asyncio.sleep(0)

        with pytest.raises(NotSentError) as raised:
            await ProviderHttp(HttpExchange()).send(
                provider, request_to(provider), before_write=before_write, reply_deadline=LONG
            )
    assert "connect" == raised.value.cause


async def test_what_a_peer_said_before_it_went_is_no_reply(authority: trustme.CA, tmp_path: Path) -> None:
    """When the peer answers and goes before the write, nothing was sent, and its answer is not believed."""

    async def give_up_waiting(connection: Connection) -> None:
        await connection.send(http("408 Request Timeout", b"too slow"))

    async with raw_server(give_up_waiting, tls=server_context(authority, "127.0.0.1")) as server:
        provider = provider_at(f"https://127.0.0.1:{server.port}/token")

        async def before_write() -> None:
            await asyncio.wait_for((await server.first()).closed.wait(), ENOUGH)  # both ends have said goodbye

        endpoint = ProviderHttp(trusting(authority, tmp_path, provider.token_url))
        with pytest.raises(NotSentError) as raised:
            await endpoint.send(provider, request_to(provider), before_write=before_write, reply_deadline=LONG)
    assert ("connect", b"") == (raised.value.cause, bytes(server.connections[0].received))


async def test_a_write_that_breaks_off_was_sent() -> None:
    """A peer that resets while the request is being written may have read enough of it."""

    async def reset_while_reading(connection: Connection) -> None:
        await connection.heard.wait()
        connection.writer.transport.abort()

    async def before_write() -> None:
        """Let it be written."""

    async with raw_server(reset_while_reading) as server:
        outgoing = Outgoing("POST", f"http://127.0.0.1:{server.port}/", {}, b"x" * 30_000_000, insecure_loopback=True)
        with pytest.raises(ReplyLostError) as raised:
            await HttpExchange()(outgoing, before_write=before_write, reply_deadline=LONG)
    assert "reset" == raised.value.cause


async def test_the_next_address_is_tried() -> None:
    """When the first address of a name refuses, the next one is dialled."""
    async with raw_server(answering(GOOD), host="127.0.0.1") as server:
        sent = await send(f"http://as.test:{server.port}/token", exchange=resolving("127.0.0.2", "127.0.0.1"))
    assert "landed" == sent.reading.outcome


@pytest.mark.parametrize(
    ("url", "addresses", "insecure_loopback"),
    [
        ("https://as.test/token", ["169.254.169.254"], False),
        ("https://as.test/token", ["127.0.0.1", "169.254.7.7"], False),
        ("https://as.test/token", ["fe80::1"], False),
        ("https://as.test/token", ["fd00:ec2::254"], False),
        ("https://as.test/token", ["100.100.100.200"], False),
        ("https://as.test/token", ["::ffff:169.254.169.254"], False),
        ("https://as.test/token", ["64:ff9b::a9fe:a9fe"], False),
        ("https://as.test/token", ["2002:a9fe:a9fe::1"], False),
        ("https://as.test/token", ["0.0.0.0"], False),
        ("https://as.test/token", ["::"], False),
        ("https://as.test/token", ["ff02::1"], False),
        ("http://as.test/token", ["127.0.0.1"], False),
        ("http://as.test/token", ["10.0.0.1"], True),
        ("http://as.test/token", ["127.0.0.1", "10.0.0.1"], True),
        ("ftp://as.test/token", ["127.0.0.1"], True),
        ("https://user@as.test/token", ["127.0.0.1"], False),
    ],
)
async def test_what_may_not_be_reached(url: str, addresses: list[str], insecure_loopback: bool) -> None:
    """Link-local, metadata and other odd addresses are refused after resolution, plain http off loopback too."""
    sent = await send(url, exchange=resolving(*addresses), insecure_loopback=insecure_loopback)
    assert ("not_sent", "egress", 0) == (sent.reading.outcome, sent.reading.cause, sent.hook_calls)


@pytest.mark.parametrize(
    ("path", "value"), [("/token", "a\r\nb: c"), ("/token", "\x00"), ("/token", "é"), ("/to ken", "a"), ("/tökén", "a")]
)
async def test_what_cannot_stand_in_a_request(path: str, value: str) -> None:
    """A header or path that is no text of one line is not written, and nobody is connected to."""

    async def before_write() -> None:
        pytest.fail("not to be reached")

    async with raw_server(answering(GOOD)) as server:
        url = f"http://127.0.0.1:{server.port}{path}"
        with pytest.raises(NotSentError) as raised:
            await HttpExchange()(
                Outgoing("GET", url, {"x": value}, b"", insecure_loopback=True),
                before_write=before_write,
                reply_deadline=LONG,
            )
    assert ("withheld", []) == (raised.value.cause, server.connections)


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.1.1", "8.8.8.8", "127.0.0.1", "2001:4860::1", "fd12::1"])
def test_what_may_be_reached_over_tls(address: str) -> None:
    """Private and public addresses may be reached over TLS."""
    check_addresses([ipaddress.ip_address(address)], plain=False)


async def test_only_the_token_endpoints_origin() -> None:
    """A request to any other origin than the provider's token endpoint is refused."""
    provider = provider_at("https://as.test/token")
    request = request_to(provider_at("https://other.test/token"))

    async def before_write() -> None:
        pytest.fail("not to be reached")

    with pytest.raises(NotSentError) as raised:
        await ProviderHttp(HttpExchange()).send(provider, request, before_write=before_write, reply_deadline=LONG)
    assert "egress" == raised.value.cause


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are not for provider calls."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert "landed" == (await exchanged(answering(GOOD))).reading.outcome


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority."""
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return a server's context with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA, folder: Path, url: str, **limits: float) -> HttpExchange:
    """Return an exchange that trusts the authority for the URL's origin, and resolves every name to loopback."""
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    origin = url.rsplit("/", 1)[0]

    async def resolve(_: str, __: int) -> Sequence[Address]:
        return [ipaddress.ip_address("127.0.0.1")]

    return HttpExchange({origin: str(file)}, resolve=resolve, **limits)


@pytest.mark.parametrize(
    ("name", "trusted", "outcome", "cause"),
    [
        ("as.test", True, "landed", ""),
        ("127.0.0.1", True, "landed", ""),
        ("as.test", False, "not_sent", "tls"),
        ("other.test", True, "not_sent", "tls"),
    ],
    ids=["right", "right-address", "wrong-authority", "wrong-name"],
)
async def test_tls_is_verified(
    authority: trustme.CA, tmp_path: Path, name: str, trusted: bool, outcome: str, cause: str
) -> None:
    """The certificate must be of a trusted authority and for the URL's host, though an address was dialled."""
    async with raw_server(answering(GOOD), tls=server_context(authority, "as.test", "127.0.0.1")) as server:
        url = f"https://{name}:{server.port}/token"
        sent = await send(url, exchange=trusting(authority if trusted else trustme.CA(), tmp_path, url))
    assert (outcome, cause) == (sent.reading.outcome, sent.reading.cause)


async def test_the_systems_authorities_are_the_default(authority: trustme.CA) -> None:
    """Without a file of its own an origin is verified against the system's authorities."""
    async with raw_server(answering(GOOD), tls=server_context(authority, "127.0.0.1")) as server:
        sent = await send(f"https://127.0.0.1:{server.port}/token")
    assert ("not_sent", "tls") == (sent.reading.outcome, sent.reading.cause)


async def test_plain_http_where_tls_is_spoken(authority: trustme.CA, tmp_path: Path) -> None:
    """A server that does not speak TLS is a TLS failure."""

    async def banner(connection: Connection) -> None:
        await connection.send(b"220 mail.example ESMTP\r\n")
        await connection.closed.wait()

    async with raw_server(banner) as server:
        url = f"https://127.0.0.1:{server.port}/token"
        sent = await send(url, exchange=trusting(authority, tmp_path, url))
    assert ("not_sent", "tls") == (sent.reading.outcome, sent.reading.cause)
