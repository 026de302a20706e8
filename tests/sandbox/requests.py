"""Requests that the sandbox's tests send over and over."""

from __future__ import annotations

import httpx2

from tests.support.sandbox import SandboxDriver

CREDENTIALS = {"client_id": "desk-app", "client_secret": "desk-app-secret"}


async def ask(sandbox: SandboxDriver, **params: str) -> httpx2.Response:
    """Send a JSON token request with the default client's credentials."""
    return await sandbox.http.post("/v1/oauth2/token", json={**CREDENTIALS, **params})


async def refresh(sandbox: SandboxDriver, refresh_token: str, **params: str) -> httpx2.Response:
    """Redeem a refresh token."""
    return await ask(sandbox, grant_type="refresh_token", refresh_token=refresh_token, **params)


async def revoke(sandbox: SandboxDriver, token: str, **params: str) -> httpx2.Response:
    """Send a JSON revocation request with the default client's credentials."""
    return await sandbox.http.post("/v1/oauth2/revoke", json={**CREDENTIALS, "token": token, **params})


async def access_token(sandbox: SandboxDriver, scope: str = "") -> str:
    """Return an access token with these scopes, or with all the client has."""
    response = await ask(sandbox, grant_type="client_credentials", scope=scope)
    return str(response.json()["access_token"])


async def bearer(sandbox: SandboxDriver, scope: str = "") -> dict[str, str]:
    """Return the header that carries such an access token."""
    return {"Authorization": f"Bearer {await access_token(sandbox, scope)}"}
