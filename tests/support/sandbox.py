"""The sandbox for tests: started in the test's event loop on a free port, driven by its admin endpoint."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from broker.sandbox import RunningSandbox, SandboxConfig, serve

# Trusts no authority: the sandbox speaks plain HTTP, and loading the usual ones takes longer than a test.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class FakeClock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, seconds: float = 1_800_000_000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
        self.seconds += seconds


@dataclass
class SandboxDriver:
    """A running sandbox, with an HTTP client at its root and its admin endpoint as methods."""

    running: RunningSandbox
    http: httpx2.AsyncClient

    @property
    def url(self) -> str:
        """The sandbox's root, which is also its API origin and its issuer."""
        return self.running.url

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return self.running.token_url

    async def behave(self, **changes: object) -> dict[str, Any]:
        """Change switches of the behaviour; returns all of them."""
        return await self._admin("PATCH", "/behaviour", changes)

    async def fail(self, count: int = 1, **failure: object) -> None:
        """Script the next `count` calls of a target (`token`, unless `revoke` or `api` is named) to fail."""
        await self._admin("POST", "/failures", {"count": count, **failure})

    async def clear_failures(self) -> None:
        """Drop scripted failures, and end calls that hang, drip or are late."""
        await self._admin("DELETE", "/failures")

    async def refresh_token(
        self,
        client_id: str = "desk-app",
        scopes: Iterable[str] | None = None,
        **more: object,
    ) -> str:
        """Return a new refresh token, as a consent would have given it."""
        body = {"client_id": client_id, "scopes": None if scopes is None else sorted(scopes), **more}
        created = await self._admin("POST", "/refresh-tokens", body)
        return str(created["refresh_token"])

    async def refresh_tokens(self) -> list[dict[str, Any]]:
        """Return `token`, `family`, `used`, `revoked`, `live` of every refresh token, oldest first."""
        told = await self._admin("GET", "/refresh-tokens")
        return list(told["refresh_tokens"])

    async def revoke(self, refresh_token: str) -> None:
        """End the consent that this refresh token belongs to."""
        await self._admin("POST", "/refresh-tokens/revoke", {"refresh_token": refresh_token})

    async def inspect(self, refresh_token: str) -> dict[str, Any]:
        """Return `client_id`, `user_id`, `scopes`, `used`, `revoked` of a refresh token."""
        return await self._admin("POST", "/refresh-tokens/inspect", {"refresh_token": refresh_token})

    async def code(self, redirect_uri: str, client_id: str = "desk-app", **more: object) -> str:
        """Return a new authorization code, as the login page would have given it."""
        created = await self._admin(
            "POST",
            "/codes",
            {"client_id": client_id, "redirect_uri": redirect_uri, **more},
        )
        return str(created["code"])

    async def revoke_access_tokens(self) -> None:
        """Make every access token issued so far unknown to the API."""
        await self._admin("POST", "/access-tokens/revoke")

    async def counters(self) -> dict[str, Any]:
        """Return how the endpoints and the API were called, and how often spent refresh tokens were presented."""
        return await self._admin("GET", "/counters")

    async def reset(self) -> None:
        """Forget everything since the start."""
        await self._admin("POST", "/reset")

    async def _admin(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = await self.http.request(
            verb,
            f"/sandbox/admin{path}",
            json=body or {},
            headers={"Authorization": f"Bearer {self.running.admin_token}"},
        )
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


@asynccontextmanager
async def running_sandbox(config: SandboxConfig | None = None, **changes: Any) -> AsyncIterator[SandboxDriver]:  # noqa: ANN401, fields of the configuration
    """Run a sandbox for the length of the block; keyword arguments are fields of `SandboxConfig`."""
    running = await serve(dataclasses.replace(config or SandboxConfig(), **changes))
    try:
        async with httpx2.AsyncClient(base_url=running.url, trust_env=False, verify=NO_AUTHORITIES) as http:
            yield SandboxDriver(running, http)
    finally:
        await running.stop()
