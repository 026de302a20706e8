"""Scripted failures, over a real socket."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from broker.sandbox.failures import HUGE_BYTES
from tests.sandbox.requests import ask, bearer, refresh
from tests.support.sandbox import SandboxDriver


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("flat", {"error": "x", "codes": [{"code": "X", "description": "scripted failure"}]}),
        ("rfc", {"error": "x", "error_description": "scripted failure"}),
    ],
)
async def test_bodies_that_are_json(sandbox: SandboxDriver, body: str, expected: object) -> None:
    """A failure sends the status, headers and body that were scripted."""
    await sandbox.fail(status=503, body=body, error="x", headers={"Retry-After": "7"})
    response = await ask(sandbox, grant_type="client_credentials")
    assert (503, "7", expected) == (response.status_code, response.headers["Retry-After"], response.json())


async def test_a_nested_body_has_its_type_from_the_status(sandbox: SandboxDriver) -> None:
    """The nested body of a 429 is of type RATE_LIMIT."""
    await sandbox.fail(target="api", status=429, body="nested", error="slow_down", headers={"Retry-After": "2"})
    response = await sandbox.http.get("/v1/accounts/501/balances", headers=await bearer(sandbox))
    error = response.json()["error"]
    assert (429, "RATE_LIMIT", "SLOW_DOWN") == (response.status_code, error["type"], error["code"])


@pytest.mark.parametrize(
    ("body", "media_type", "start", "length"),
    [
        ("empty", None, b"", 0),
        ("html", "text/html; charset=utf-8", b"<html>", 46),
        ("huge", "application/json", b'{"error":"xxx', HUGE_BYTES + 12),
    ],
)
async def test_bodies_that_are_not(
    sandbox: SandboxDriver,
    body: str,
    media_type: str | None,
    start: bytes,
    length: int,
) -> None:
    """A failure can have no body, HTML, or 10 MB of it."""
    await sandbox.fail(status=500, body=body)
    response = await ask(sandbox, grant_type="client_credentials")
    assert (500, media_type, length) == (
        response.status_code,
        response.headers.get("Content-Type"),
        len(response.content),
    )
    assert response.content.startswith(start)


async def test_an_echo_gives_the_secret_back(sandbox: SandboxDriver) -> None:
    """The error can repeat the refresh token and secret it received."""
    token = await sandbox.refresh_token()
    await sandbox.fail(status=400, body="echo")
    text = (await refresh(sandbox, token)).text
    assert (True, True) == (token in text, "desk-app-secret" in text)


async def test_truncated_json(sandbox: SandboxDriver) -> None:
    """A reply can be whole in HTTP and half in JSON."""
    await sandbox.fail(status=200, body="truncated", when="after")
    response = await ask(sandbox, grant_type="client_credentials")
    assert (200, '{"access_token":') == (response.status_code, response.text[:16])
    with pytest.raises(json.JSONDecodeError):
        response.json()


async def test_a_drip_sends_everything_slowly(sandbox: SandboxDriver) -> None:
    """A dripped reply is the true one, byte by byte."""
    await sandbox.fail(body="drip", when="after", drip_seconds=0)
    response = await ask(sandbox, grant_type="client_credentials")
    assert (200, "Bearer") == (response.status_code, response.json()["token_type"])


@pytest.mark.parametrize("body", ["drop", "cut"])
async def test_the_connection_can_close(sandbox: SandboxDriver, body: str) -> None:
    """The connection can close before the reply, or in its middle."""
    await sandbox.fail(body=body)
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await ask(sandbox, grant_type="client_credentials")
    assert 200 == (await ask(sandbox, grant_type="client_credentials")).status_code


@pytest.mark.parametrize("body", ["hang", "drip"])
async def test_slow_calls_end_when_failures_are_cleared(sandbox: SandboxDriver, body: str) -> None:
    """A call that hangs, or drips for hours, ends when the script is cleared, without a whole reply."""
    await sandbox.fail(body=body, drip_seconds=3600)
    call = asyncio.ensure_future(ask(sandbox, grant_type="client_credentials"))
    # Clearing wakes only calls that wait already, so it is repeated until this one did.
    while (await sandbox.counters())["token_calls"] == 0:
        pass
    while not call.done():
        await sandbox.clear_failures()
    whole = call.exception() is None and call.result().content != b""
    assert not whole


async def test_a_hang_ends_with_its_peer(sandbox: SandboxDriver) -> None:
    """A peer that gives up leaves nothing running."""
    await sandbox.fail(body="hang")
    with pytest.raises(httpx2.ReadTimeout):
        await sandbox.http.post("/v1/oauth2/token", json={}, timeout=0.05)
    assert 200 == (await ask(sandbox, grant_type="client_credentials")).status_code


@pytest.mark.parametrize(("when", "spent"), [("before", False), ("after", True)])
async def test_before_or_after_the_token_is_spent(sandbox: SandboxDriver, when: str, spent: bool) -> None:
    """A failed refresh leaves the refresh token unspent, or spends it and loses the answer."""
    token = await sandbox.refresh_token()
    await sandbox.fail(body="drop", when=when)
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await refresh(sandbox, token)
    assert spent is (await sandbox.inspect(token))["used"]


async def test_failures_come_in_the_order_scripted_and_are_counted(sandbox: SandboxDriver) -> None:
    """The next N calls fail, in the order they were scripted; every call counts."""
    await sandbox.fail(2, status=500)
    await sandbox.fail(1, status=502)
    statuses = [(await ask(sandbox, grant_type="client_credentials")).status_code for _ in range(4)]
    counters = await sandbox.counters()
    assert [500, 500, 502, 200] == statuses
    assert (4, {"-/scripted": 3, "client_credentials/issued": 1}) == (
        counters["token_calls"],
        counters["token_outcomes"],
    )
