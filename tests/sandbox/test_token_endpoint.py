"""The token endpoint: bodies, grants and refusals."""

from __future__ import annotations

import base64
import hashlib

import httpx2
import jwt
import pytest

from tests.sandbox.requests import CREDENTIALS, ask
from tests.support.sandbox import FakeClock, SandboxDriver

REDIRECT = "https://app.example.com/callback"


async def test_json_and_form_bodies_are_the_same_request(sandbox: SandboxDriver) -> None:
    """A token request may be JSON or a form."""
    params = {"grant_type": "client_credentials", "scope": "user:information", **CREDENTIALS}
    as_json = await sandbox.http.post("/v1/oauth2/token", json=params)
    as_form = await sandbox.http.post("/v1/oauth2/token", data=params)
    expected = (200, {"access_token", "token_type", "expires_in", "scope"})
    assert expected == (as_json.status_code, set(as_json.json()))
    assert expected == (as_form.status_code, set(as_form.json()))


async def test_client_credentials_grant_what_was_asked(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """The reply and the access token name the scopes that were asked for, and the owner."""
    response = await ask(sandbox, grant_type="client_credentials", scope="order:information account:information")
    reply = response.json()
    claims = jwt.decode(reply["access_token"], options={"verify_signature": False})
    assert "account:information order:information" == reply["scope"]
    assert ("Bearer", 3600) == (reply["token_type"], reply["expires_in"])
    assert claims | {"jti": ""} == {
        "iss": sandbox.url,
        "aud": sandbox.url,
        "sub": "1001",
        "client_id": "desk-app",
        "scope": "account:information order:information",
        "iat": int(clock()),
        "nbf": int(clock()),
        "exp": int(clock()) + 3600,
        "jti": "",
    }


async def test_no_scope_means_all_the_client_has(sandbox: SandboxDriver) -> None:
    """A scope left out, or empty, stands for the client's registered scopes."""
    for params in ({}, {"scope": ""}):
        reply = (await ask(sandbox, grant_type="client_credentials", **params)).json()
        assert set(reply["scope"].split()) == sandbox.running.state.clients["desk-app"].scopes


@pytest.mark.parametrize(
    ("params", "status", "error"),
    [
        ({"grant_type": "client_credentials", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "client_id": "nobody"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "scope": "withdraw"}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({}, 400, "invalid_request"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "art_unknown"}, 400, "invalid_grant"),
        ({"grant_type": "authorization_code", "code": "unknown"}, 400, "invalid_grant"),
    ],
)
async def test_refusals_are_flat_with_the_rfc_code(
    sandbox: SandboxDriver,
    params: dict[str, str],
    status: int,
    error: str,
) -> None:
    """A refusal has the flat body, whose `error` is the RFC 6749 code."""
    response = await ask(sandbox, **params)
    assert (status, error) == (response.status_code, response.json()["error"])
    assert [error.upper()] == [code["code"] for code in response.json()["codes"]]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]x"),
        ("application/json", b'{"grant_type": 1}'),
        ("application/json", b'["grant_type"]'),
        ("application/json", b'{"grant_type": "a", "grant_type": "b"}'),
        (
            "application/json",
            b'{"client_id": "desk-app", "client_secret": "\\ud800"}',
        ),
        ("application/x-www-form-urlencoded", b"grant_type=a&grant_type=b"),
        ("application/x-www-form-urlencoded", b"nonsense"),
        ("application/x-www-form-urlencoded", b"\xff=1"),
    ],
)
async def test_unreadable_bodies_are_invalid_requests(sandbox: SandboxDriver, content_type: str, body: bytes) -> None:
    """A body that is no flat set of strings, each once, is refused as invalid_request."""
    response = await sandbox.http.post("/v1/oauth2/token", content=body, headers={"Content-Type": content_type})
    assert (400, "invalid_request") == (response.status_code, response.json()["error"])


async def test_an_unregistered_scope_may_be_dropped_instead(sandbox: SandboxDriver) -> None:
    """Told to drop unregistered scopes, the sandbox grants the others."""
    await sandbox.behave(unregistered_scope="drop")
    response = await ask(sandbox, grant_type="client_credentials", scope="user:information withdraw")
    assert "user:information" == response.json()["scope"]


@pytest.mark.parametrize("grant_type", ["authorization_code", "code"])
async def test_a_code_works_once(sandbox: SandboxDriver, grant_type: str) -> None:
    """A code gives tokens once; its second use is refused and ends what the first gave (RFC 6749 §4.1.2)."""
    code = await sandbox.code(REDIRECT, scopes=["user:information"])
    first = await ask(sandbox, grant_type=grant_type, code=code, redirect_uri=REDIRECT)
    second = await ask(sandbox, grant_type=grant_type, code=code, redirect_uri=REDIRECT)
    assert (200, "user:information") == (first.status_code, first.json()["scope"])
    assert (400, "invalid_grant") == (second.status_code, second.json()["error"])
    assert (await sandbox.inspect(first.json()["refresh_token"]))["revoked"] is True


async def test_a_code_needs_its_redirect_uri_and_its_life(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """Another redirect_uri, or ten minutes, make a code useless."""
    code = await sandbox.code(REDIRECT)
    other = await ask(sandbox, grant_type="authorization_code", code=code, redirect_uri=REDIRECT + "/")
    clock.advance(600)
    late = await ask(sandbox, grant_type="authorization_code", code=code, redirect_uri=REDIRECT)
    assert ["invalid_grant", "invalid_grant"] == [other.json()["error"], late.json()["error"]]


@pytest.mark.parametrize(("verifier", "status"), [("v" * 43, 200), ("w" * 43, 400), (None, 400)])
async def test_a_challenge_wants_its_verifier(sandbox: SandboxDriver, verifier: str | None, status: int) -> None:
    """A code with an S256 challenge is exchanged only with the verifier (RFC 7636 §4.6)."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
    code = await sandbox.code(REDIRECT, code_challenge=challenge)
    params = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
    response = await ask(sandbox, **params, **({} if verifier is None else {"code_verifier": verifier}))
    assert status == response.status_code


async def test_replies_are_marked_and_not_stored(sandbox: SandboxDriver) -> None:
    """Every reply carries the mark; token replies forbid storing."""
    replies: list[httpx2.Response] = [
        await ask(sandbox, grant_type="client_credentials"),
        await ask(sandbox),
        await sandbox.http.get("/v1/oauth2/token"),
        await sandbox.http.get("/nowhere"),
        await sandbox.http.get("/health"),
        await sandbox.http.get("/v1/users/me"),
        await sandbox.http.get("/sandbox/admin/counters"),
    ]
    assert [200, 400, 405, 404, 200, 401, 401] == [reply.status_code for reply in replies]
    assert ["1"] * len(replies) == [reply.headers["Aries-Sandbox"] for reply in replies]
    assert ["no-store"] * 2 == [reply.headers["Cache-Control"] for reply in replies[:2]]
