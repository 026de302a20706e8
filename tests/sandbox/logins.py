"""What the sandbox's tests of logins send over and over."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import httpx2

from broker.sandbox import ClientSeed
from tests.sandbox.requests import ask
from tests.support.sandbox import SandboxDriver

REDIRECT = "http://127.0.0.1:8080/callback/aries"
ADA = {"email": "ada@example.com", "password": "correct horse"}
GRACE = {"email": "grace@example.com", "password": "battery staple"}
CODE = "123456"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
S256 = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
PLAIN = {"code_challenge": VERIFIER, "code_challenge_method": "plain"}
PUBLIC = ClientSeed("mobile-app", redirect_uris=("com.example.app:/callback",))
TO_PUBLIC = {"client_id": "mobile-app", "redirect_uri": "com.example.app:/callback"}


async def step(sandbox: SandboxDriver, path: str, body: Mapping[str, object]) -> httpx2.Response:
    """Send one of the three JSON steps."""
    return await sandbox.http.post(f"/v1/oauth2/authorize{path}", json=body)


async def begin(sandbox: SandboxDriver, who: Mapping[str, str], **params: object) -> httpx2.Response:
    """Send email and password for the default client."""
    return await step(sandbox, "", {"client_id": "desk-app", "redirect_uri": REDIRECT, **who, **params})


async def verify(sandbox: SandboxDriver, after: httpx2.Response, code: str = CODE) -> httpx2.Response:
    """Send the code from the phone."""
    return await step(sandbox, "/mfa", {"next_step_auth_id": named(after), "verification_code": code})


async def confirm(sandbox: SandboxDriver, after: httpx2.Response) -> httpx2.Response:
    """Consent."""
    return await step(sandbox, "/confirm", {"next_step_auth_id": named(after)})


def named(reply: httpx2.Response) -> str:
    """Return the id of the next step."""
    return str(reply.json()["next_step_auth_id"])


def told(reply: httpx2.Response) -> tuple[int, str]:
    """Return a flat refusal's status and code."""
    (code,) = reply.json()["codes"]
    return reply.status_code, str(code["code"])


async def exchange(sandbox: SandboxDriver, code: str, **params: str) -> httpx2.Response:
    """Exchange a code of the default client."""
    return await ask(sandbox, **{"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, **params})


async def who_am_i(sandbox: SandboxDriver, tokens: httpx2.Response) -> Any:  # noqa: ANN401 - as JSON has it
    """Return the id that the API tells the holder of these tokens."""
    header = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
    return (await sandbox.http.get("/v1/users/me", headers=header)).json().get("id")
