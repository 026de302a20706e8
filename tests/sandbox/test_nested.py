"""JSON nested too deep to be read is malformed, wherever JSON is read."""

from __future__ import annotations

import base64

import httpx2
import pytest

from broker.sandbox.admin import admin_routes
from broker.sandbox.client_auth import ASSERTION_TYPE
from tests.sandbox.requests import bearer
from tests.support.sandbox import SandboxDriver

DEPTHS = [100_000, *range(800, 1_001, 8)]
"""Far beyond what Python nests, and just below and above it, where it fails in another place than at first."""

ORDERS = ["/v1/orders", "/v1/orders/cancel", "/v1/orders/replace", "/v1/orders/preview"]
COMMANDS = sorted((next(iter((route.methods or set()) - {"HEAD"})), route.path) for route in admin_routes())


def _nested(depth: int, member: str) -> bytes:
    return f'{{"{member}": {"[" * depth}{"]" * depth}}}'.encode()


async def _statuses(
    sandbox: SandboxDriver, path: str, headers: dict[str, str], *, verb: str = "POST", member: str = "a"
) -> list[httpx2.Response]:
    headers = {"Content-Type": "application/json", **headers}
    bodies = [b"[" * DEPTHS[0], *(_nested(depth, member) for depth in DEPTHS)]
    return [await sandbox.http.request(verb, path, content=body, headers=headers) for body in bodies]


@pytest.mark.parametrize("path", ORDERS)
async def test_an_order_nested_too_deep_is_malformed(sandbox: SandboxDriver, path: str) -> None:
    """Told as any other body that is no JSON."""
    replies = await _statuses(sandbox, path, await bearer(sandbox))
    assert {400} == {reply.status_code for reply in replies}
    assert ["MALFORMED_JSON"] * 2 == [reply.json()["error"]["code"] for reply in replies[:2]]


@pytest.mark.parametrize("path", ["/v1/oauth2/token", "/v1/oauth2/revoke"])
async def test_a_token_request_nested_too_deep_is_malformed(sandbox: SandboxDriver, path: str) -> None:
    """Told as any other body that cannot be read."""
    replies = await _statuses(sandbox, path, {}, member="client_id")
    assert {(400, "invalid_request")} == {(reply.status_code, reply.json()["error"]) for reply in replies}


@pytest.mark.parametrize("path", ["", "/mfa", "/confirm"])
async def test_a_step_of_a_login_nested_too_deep_is_malformed(sandbox: SandboxDriver, path: str) -> None:
    """Told as any other body that cannot be read."""
    replies = await _statuses(sandbox, f"/v1/oauth2/authorize{path}", {}, member="email")
    told = {(reply.status_code, reply.json()["codes"][0]["code"]) for reply in replies}
    assert {(400, "INVALID_REQUEST"), (413, "INVALID_REQUEST")} == told


@pytest.mark.parametrize("member", ["client_id", "refresh_token"])
@pytest.mark.parametrize(("verb", "path"), COMMANDS)
async def test_a_command_nested_too_deep_is_malformed(
    sandbox: SandboxDriver, verb: str, path: str, member: str
) -> None:
    """Also where the body is of no use."""
    headers = {"Authorization": f"Bearer {sandbox.running.admin_token}"}
    replies = await _statuses(sandbox, path, headers, verb=verb, member=member)
    assert {400, 200} >= {reply.status_code for reply in replies}
    assert [400, 400] == [reply.status_code for reply in replies[:2]]


async def test_an_assertion_nested_too_deep_does_not_verify(sandbox: SandboxDriver) -> None:
    """Neither in its header nor in its claims."""
    plain, nested = b'{"alg":"ES256"}', b"[" * DEPTHS[0]
    for header, claims in ((plain, nested), (nested, plain)):
        assertion = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, claims, b"x"))
        params = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        reply = await sandbox.http.post("/v1/oauth2/token", data={"grant_type": "client_credentials", **params})
        assert (401, "invalid_client") == (reply.status_code, reply.json()["error"])
