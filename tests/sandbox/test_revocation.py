"""The revocation endpoint (RFC 7009): what a token ends, what ends nothing, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import httpx2
import pytest

from broker.sandbox import ClientSeed
from tests.sandbox.requests import CREDENTIALS, access_token, refresh, revoke
from tests.support.sandbox import FakeClock, SandboxDriver, running_sandbox

BASIC = f"Basic {base64.b64encode(b'desk-app:desk-app-secret').decode()}"


async def is_known(sandbox: SandboxDriver, access: str) -> bool:
    """Return whether the API knows an access token."""
    answer = await sandbox.http.get("/v1/users/me", headers={"Authorization": f"Bearer {access}"})
    return 401 != answer.status_code


async def outcomes(sandbox: SandboxDriver) -> dict[str, int]:
    """Return how revocations went."""
    told: dict[str, int] = (await sandbox.counters())["revocations"]["outcomes"]
    return told


@pytest.mark.parametrize("rotation", ["rotate", "none"])
async def test_a_refresh_token_ends_its_family_and_its_access_tokens(sandbox: SandboxDriver, rotation: str) -> None:
    """Every refresh token and access token of the grant is refused from then on; those of others are not."""
    await sandbox.behave(rotation=rotation)
    other = (await refresh(sandbox, await sandbox.refresh_token())).json()
    own, plain = await sandbox.refresh_token(), await access_token(sandbox)
    first = (await refresh(sandbox, own)).json()
    newest = first.get("refresh_token", own)
    second = (await refresh(sandbox, newest)).json()
    newest = second.get("refresh_token", own)
    answer = await revoke(sandbox, newest)
    assert (200, b"", "no-store") == (answer.status_code, answer.content, answer.headers["Cache-Control"])
    assert "invalid_grant" == (await refresh(sandbox, newest)).json()["error"]
    replies = (first, second, other)
    assert [False, False, True] == [await is_known(sandbox, reply["access_token"]) for reply in replies]
    assert await is_known(sandbox, plain)


async def test_a_spent_refresh_token_ends_its_family_too(sandbox: SandboxDriver) -> None:
    """A client that lost a reply holds no newer token than the spent one; this is no reuse."""
    spent = await sandbox.refresh_token()
    newest = (await refresh(sandbox, spent)).json()["refresh_token"]
    await revoke(sandbox, spent)
    assert (await sandbox.inspect(newest))["revoked"] is True
    assert 0 == (await sandbox.counters())["reuses"]


async def test_an_access_token_ends_alone(sandbox: SandboxDriver) -> None:
    """Its refresh token and its siblings work on."""
    reply = (await refresh(sandbox, await sandbox.refresh_token())).json()
    sibling = (await refresh(sandbox, reply["refresh_token"])).json()
    assert 200 == (await revoke(sandbox, reply["access_token"])).status_code
    assert [False, True] == [await is_known(sandbox, given["access_token"]) for given in (reply, sibling)]
    assert 200 == (await refresh(sandbox, sibling["refresh_token"])).status_code


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "made_up"])
async def test_a_wrong_hint_does_not_matter(sandbox: SandboxDriver, hint: str) -> None:
    """Both kinds of token are found under any hint (RFC 7009 §2.1)."""
    reply = (await refresh(sandbox, await sandbox.refresh_token())).json()
    for name in ("access_token", "refresh_token"):
        await revoke(sandbox, reply[name], token_type_hint=hint)
    assert {"access_token/ended": 1, "refresh_token/ended": 1} == await outcomes(sandbox)


async def test_what_cannot_be_ended_is_200_without_effect(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """Tokens that are unknown, ended, superseded or expired are no error (RFC 7009 §2.2)."""
    await sandbox.behave(rotation="last_wins", access_token_seconds=5)
    old = await sandbox.refresh_token()
    superseded, newest = [(await refresh(sandbox, old)).json() for _ in range(2)]
    expired, ended = await sandbox.refresh_token(lifetime_seconds=5), await sandbox.refresh_token()
    await revoke(sandbox, ended)
    clock.advance(6)
    tokens = ("unknown", ended, superseded["refresh_token"], expired, superseded["access_token"])
    answers = [await revoke(sandbox, token) for token in tokens]
    assert [200] * 5 == [answer.status_code for answer in answers]
    assert {
        "refresh_token/ended": 1,
        "-/unchanged": 1,
        "refresh_token/unchanged": 3,
        "access_token/unchanged": 1,
    } == await outcomes(sandbox)
    assert 200 == (await refresh(sandbox, newest["refresh_token"])).status_code


async def test_tokens_of_other_clients_are_left_alone(clock: FakeClock) -> None:
    """Another client's token is as good as unknown, and works on."""
    clients = (ClientSeed("desk-app", "desk-app-secret"), ClientSeed("other", "other-secret"))
    async with running_sandbox(now=clock, clients=clients) as sandbox:
        reply = (await refresh(sandbox, await sandbox.refresh_token())).json()
        thief = {"client_id": "other", "client_secret": "other-secret"}
        answers = [await revoke(sandbox, reply[name], **thief) for name in ("refresh_token", "access_token")]
        assert [200, 200] == [answer.status_code for answer in answers]
        assert {"-/unchanged": 2} == await outcomes(sandbox)
        assert await is_known(sandbox, reply["access_token"])
        assert 200 == (await refresh(sandbox, reply["refresh_token"])).status_code


@pytest.mark.parametrize(
    "request_form",
    [
        {"json": CREDENTIALS},
        {"data": CREDENTIALS},
        {"data": {}, "headers": {"Authorization": BASIC}},
    ],
)
async def test_clients_authenticate_as_at_the_token_endpoint(
    sandbox: SandboxDriver,
    request_form: dict[str, Any],
) -> None:
    """JSON or form, the secret in the body or in the header."""
    body = {name: {**part, "token": "unknown"} for name, part in request_form.items() if name != "headers"}
    answer = await sandbox.http.post("/v1/oauth2/revoke", **{**request_form, **body})
    assert (200, {"-/unchanged": 1}) == (answer.status_code, await outcomes(sandbox))


@pytest.mark.parametrize(
    ("params", "status", "error"),
    [
        ({**CREDENTIALS, "client_secret": "wrong", "token": "x"}, 401, "invalid_client"),
        ({"token": "x"}, 401, "invalid_client"),
        (CREDENTIALS, 400, "invalid_request"),
    ],
)
async def test_refusals_have_the_shape_of_the_token_endpoint(
    sandbox: SandboxDriver,
    params: dict[str, str],
    status: int,
    error: str,
) -> None:
    """A client that is not known, or names no token, gets the flat error, and is counted."""
    answer = await sandbox.http.post("/v1/oauth2/revoke", json=params)
    assert (status, error) == (answer.status_code, answer.json()["error"])
    assert [error.upper()] == [code["code"] for code in answer.json()["codes"]]
    assert {"calls": 1, "outcomes": {f"-/{error}": 1}} == (await sandbox.counters())["revocations"]


@pytest.mark.parametrize(
    ("revocation", "status", "outcome"),
    [("on", 200, "refresh_token/ended"), ("off", 404, "-/not_found"), ("unsupported", 400, "-/unsupported_token_type")],
)
async def test_the_endpoint_can_be_missing_or_refuse(
    sandbox: SandboxDriver,
    revocation: str,
    status: int,
    outcome: str,
) -> None:
    """There may be no such endpoint, or one that does not take this kind of token: the token lives on."""
    await sandbox.behave(revocation=revocation)
    token = await sandbox.refresh_token()
    assert status == (await revoke(sandbox, token)).status_code
    assert {outcome: 1} == await outcomes(sandbox)
    assert ("on" == revocation) is (await sandbox.inspect(token))["revoked"]


async def test_an_endpoint_that_is_off_answers_like_any_other_path(sandbox: SandboxDriver) -> None:
    """Its 404 is the one of a path that never was."""
    await sandbox.behave(revocation="off")
    bodies = [(await sandbox.http.post(path)).json()["error"] for path in ("/v1/oauth2/revoke", "/nowhere")]
    assert bodies[1] | {"request_id": ""} == bodies[0] | {"request_id": ""}


@pytest.mark.parametrize(("when", "ended"), [("before", False), ("after", True)])
async def test_revocations_can_be_scripted_to_fail(sandbox: SandboxDriver, when: str, ended: bool) -> None:
    """A failed revocation has ended the grant or not, and token calls are not touched by the script."""
    token = await sandbox.refresh_token()
    await sandbox.fail(target="revoke", status=503, when=when)
    assert 503 == (await revoke(sandbox, token)).status_code
    assert ended is (await sandbox.inspect(token))["revoked"]
    counters = await sandbox.counters()
    assert (1, 0) == (counters["revocations"]["calls"], counters["token_calls"])


async def test_a_connection_can_drop_at_a_revocation(sandbox: SandboxDriver) -> None:
    """Failures that close the connection do so here as well."""
    await sandbox.fail(target="revoke", body="drop")
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await revoke(sandbox, "unknown")
    assert {"-/scripted": 1} == await outcomes(sandbox)


@pytest.mark.parametrize("rotation", ["rotate", "none"])
async def test_access_tokens_know_where_they_came_from(sandbox: SandboxDriver, rotation: str) -> None:
    """An access token names the refresh token that came with it or gave it, and none for client credentials."""
    await sandbox.behave(rotation=rotation)
    plain, presented = await access_token(sandbox), await sandbox.refresh_token()
    reply = (await refresh(sandbox, presented)).json()
    known, tokens = sandbox.running.state.access_tokens, sandbox.running.state.refresh_tokens
    assert known[plain].family is None
    assert tokens[reply.get("refresh_token", presented)] is known[reply["access_token"]].refresh_token
