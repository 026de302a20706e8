"""Scripted failures, over a real socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from broker.sandbox.failures import HUGE_BYTES
from tests.sandbox.requests import ask, bearer, refresh, revoke
from tests.support.sandbox import SandboxDriver
from tests.support.waiting import until


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


@pytest.mark.parametrize("script", [{"body": "hang"}, {"body": "drip", "drip_seconds": 3600}, {"delay_seconds": 3600}])
async def test_slow_calls_end_when_failures_are_cleared(sandbox: SandboxDriver, script: dict[str, Any]) -> None:
    """A call that hangs, drips for hours or is late by one ends when the script is cleared, without a whole reply."""
    await sandbox.fail(**script)
    call = asyncio.ensure_future(ask(sandbox, grant_type="client_credentials"))
    # Clearing wakes only calls that wait already, so it is repeated until this one did.
    while (await sandbox.counters())["token_calls"] == 0:
        pass
    while not call.done():
        await sandbox.clear_failures()
    whole = call.exception() is None and call.result().content != b""
    assert (False, False) == (whole, isinstance(call.exception(), httpx2.TimeoutException))


@pytest.mark.parametrize("script", [{"body": "hang"}, {"delay_seconds": 3600}])
async def test_a_call_that_waits_ends_with_its_peer(sandbox: SandboxDriver, script: dict[str, Any]) -> None:
    """A peer that gives up leaves nothing running."""
    await sandbox.fail(**script)
    with pytest.raises(httpx2.ReadTimeout):
        await sandbox.http.post("/v1/oauth2/token", json={}, timeout=0.05)
    await until(lambda: not sandbox.running._connections.tasks)
    assert 200 == (await ask(sandbox, grant_type="client_credentials")).status_code


@pytest.mark.parametrize("target", ["token", "revoke", "api"])
async def test_a_true_reply_can_be_late(sandbox: SandboxDriver, target: str) -> None:
    """The reply is what it would have been, and comes no sooner than scripted."""
    header, clock = await bearer(sandbox), asyncio.get_running_loop()
    calls = {
        "token": lambda: ask(sandbox, grant_type="client_credentials", scope="user:information"),
        "revoke": lambda: revoke(sandbox, "unknown"),
        "api": lambda: sandbox.http.get("/v1/users/me", headers=header),
    }
    await sandbox.fail(target=target, status=503, body="true", when="after", delay_seconds=0.05)
    begun = clock.time()
    late = await calls[target]()
    took = clock.time() - begun
    prompt = await calls[target]()
    assert took >= 0.05
    assert (200, dict(prompt.headers)) == (late.status_code, dict(late.headers))


async def test_a_late_reply_is_to_a_request_that_took_effect(sandbox: SandboxDriver) -> None:
    """While its reply waits the refresh token is spent already; who ends the wait loses the reply."""
    token = await sandbox.refresh_token()
    await sandbox.fail(body="true", when="after", delay_seconds=3600)
    call = asyncio.ensure_future(refresh(sandbox, token))
    while not (await sandbox.inspect(token))["used"]:
        pass
    assert not call.done()
    while not call.done():
        await sandbox.clear_failures()
    assert isinstance(call.exception(), httpx2.ReadError | httpx2.RemoteProtocolError)


async def test_a_failure_can_be_late(sandbox: SandboxDriver) -> None:
    """A scripted error comes no sooner than scripted, and nothing else is changed of it."""
    clock = asyncio.get_running_loop()
    await sandbox.fail(status=503, error="x", delay_seconds=0.05)
    begun = clock.time()
    response = await ask(sandbox, grant_type="client_credentials")
    assert clock.time() - begun >= 0.05
    assert (503, "x") == (response.status_code, response.json()["error"])


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
