"""Client authentication: every way works, a pinned client takes one way only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker.sandbox import ClientSeed
from broker.sandbox.client_auth import ASSERTION_TYPE
from broker.sandbox.config import AuthMethod
from tests.support.sandbox import FakeClock, SandboxDriver, running_sandbox

KEY = ec.generate_private_key(ec.SECP256R1())
JWKS = {"keys": [json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key())) | {"kid": "one", "use": "sig"}]}
PEM = KEY.public_key().public_bytes(
    serialization.Encoding.PEM,
    serialization.PublicFormat.SubjectPublicKeyInfo,
)
SECRET = "s:cr t+%"
METHODS = [AuthMethod.BASIC, AuthMethod.FORM, AuthMethod.JSON, AuthMethod.PRIVATE_KEY_JWT]


@pytest.fixture
async def sandbox(clock: FakeClock) -> AsyncIterator[SandboxDriver]:
    """A sandbox with one client that may do anything, and one pinned to each method."""
    pinned = [ClientSeed(f"pinned {method}", SECRET, auth_method=method, jwks=JWKS) for method in METHODS]
    clients = (ClientSeed("any", SECRET, jwks=JWKS), ClientSeed("pem", public_key=PEM.decode()), *pinned)
    async with running_sandbox(now=clock, clients=(*clients, ClientSeed("public"))) as driver:
        yield driver


def assertion(sandbox: SandboxDriver, clock: FakeClock, client_id: str, **changes: object) -> str:
    """Return a client assertion, good unless claims are changed."""
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": sandbox.url,
        "exp": int(clock()) + 60,
        "iat": int(clock()),
        "jti": "1",
    }
    return jwt.encode({**claims, **changes}, KEY, algorithm="ES256", headers={"kid": "one"})


async def send(sandbox: SandboxDriver, clock: FakeClock, client_id: str, method: AuthMethod) -> httpx2.Response:
    """Ask for a token with this way of client authentication."""
    grant = {"grant_type": "client_credentials"}
    with_secret = {**grant, "client_id": client_id, "client_secret": SECRET}
    match method:
        case AuthMethod.JSON:
            return await sandbox.http.post(sandbox.token_url, json=with_secret)
        case AuthMethod.FORM:
            return await sandbox.http.post(sandbox.token_url, data=with_secret)
        case AuthMethod.BASIC:
            quoted = client_id.replace(" ", "+"), "s%3Acr+t%2B%25"
            return await sandbox.http.post(sandbox.token_url, data=grant, auth=httpx2.BasicAuth(*quoted))
        case _:
            signed = assertion(sandbox, clock, client_id)
            proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}
            return await sandbox.http.post(sandbox.token_url, data={**grant, **proof})


@pytest.mark.parametrize("method", METHODS)
async def test_a_client_that_is_not_pinned_may_use_any_method(
    sandbox: SandboxDriver,
    clock: FakeClock,
    method: AuthMethod,
) -> None:
    """Basic, form, JSON and private_key_jwt all authenticate, and the counters say which it was."""
    assert 200 == (await send(sandbox, clock, "any", method)).status_code
    assert method == (await sandbox.counters())["last_token_call"]["auth_method"]


@pytest.mark.parametrize("pinned", METHODS)
async def test_a_pinned_client_may_use_its_method_only(
    sandbox: SandboxDriver,
    clock: FakeClock,
    pinned: AuthMethod,
) -> None:
    """A client with a registered method is refused as invalid_client with any other."""
    for method in METHODS:
        response = await send(sandbox, clock, f"pinned {pinned}", method)
        assert (200 if method is pinned else 401) == response.status_code


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["{url}"]},
        {"aud": "{url}/v1/oauth2/token"},
        {"iss": "other"},
        {"sub": "pinned"},
        {"exp": 1_799_999_999},
        {"exp": 1_800_003_600},
        {"exp": None},
        {"jti": None},
    ],
)
async def test_a_wrong_assertion_is_refused(
    sandbox: SandboxDriver,
    clock: FakeClock,
    changes: dict[str, Any],
) -> None:
    """iss, sub, aud (one string, the issuer), exp and jti must all be right (RFC 7523 §3)."""
    filled = json.loads(json.dumps(changes).replace("{url}", sandbox.url))
    signed = assertion(sandbox, clock, "any", **filled)
    body = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": signed,
    }
    response = await sandbox.http.post(sandbox.token_url, data=body)
    assert (401, "invalid_client") == (response.status_code, response.json()["error"])


async def test_an_assertion_works_once(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """An assertion whose jti was seen is refused."""
    answers = [await send(sandbox, clock, "pem", AuthMethod.PRIVATE_KEY_JWT) for _ in range(2)]
    assert [200, 401] == [answer.status_code for answer in answers]


async def test_more_than_one_method_is_an_invalid_request(sandbox: SandboxDriver) -> None:
    """Two ways in one request are refused (RFC 6749 §2.3)."""
    body = {"grant_type": "client_credentials", "client_id": "any", "client_secret": SECRET}
    response = await sandbox.http.post(sandbox.token_url, data=body, auth=httpx2.BasicAuth("any", SECRET))
    assert (400, "invalid_request") == (response.status_code, response.json()["error"])


@pytest.mark.parametrize(("client_id", "status"), [("public", 200), ("any", 401)])
async def test_only_a_public_client_may_leave_it_out(sandbox: SandboxDriver, client_id: str, status: int) -> None:
    """A client with a credential must show it."""
    refresh_token = await sandbox.refresh_token(client_id)
    body = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": refresh_token}
    assert status == (await sandbox.http.post(sandbox.token_url, data=body)).status_code


@pytest.mark.parametrize("header", ["Basic !", "Basic YQ==", "Bearer YTpi", "Basic /w=="])
async def test_a_malformed_basic_header_is_invalid_client(sandbox: SandboxDriver, header: str) -> None:
    """A header that is not Basic credentials is refused with 401 and WWW-Authenticate."""
    response = await sandbox.http.post(
        sandbox.token_url,
        data={"grant_type": "client_credentials"},
        headers={"Authorization": header},
    )
    assert (401, "invalid_client") == (response.status_code, response.json()["error"])
    assert response.headers["WWW-Authenticate"].startswith("Basic")
