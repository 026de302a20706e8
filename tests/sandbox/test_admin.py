"""The admin endpoint: who may use it, and what it refuses."""

from __future__ import annotations

import httpx2
import pytest
from starlette.routing import Route

from broker.sandbox import SandboxConfig, create_app
from broker.sandbox.admin import admin_routes
from tests.sandbox.requests import ask, refresh
from tests.support.sandbox import FakeClock, SandboxDriver


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}])
async def test_the_admin_token_is_required(sandbox: SandboxDriver, header: dict[str, str]) -> None:
    """Without the admin token nothing is told or changed."""
    response = await sandbox.http.patch("/sandbox/admin/behaviour", json={"rotation": "none"}, headers=header)
    assert (401, "rotate") == (response.status_code, sandbox.running.state.behaviour.rotation)


@pytest.mark.parametrize("route", admin_routes(), ids=lambda route: route.path)
async def test_no_command_is_open(sandbox: SandboxDriver, route: Route) -> None:
    """The list of refresh tokens, and every other command, wants the admin token."""
    answers = [await sandbox.http.request(verb, route.path) for verb in sorted(route.methods or ())]
    assert {401} == {answer.status_code for answer in answers}


async def test_only_loopback_peers_are_heard() -> None:
    """A peer elsewhere is refused even with the admin token."""
    app = create_app(SandboxConfig(admin_token="known"))
    statuses = []
    for peer in ("127.0.0.1", "::1", "10.0.0.1"):
        transport = httpx2.ASGITransport(app=app, client=(peer, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox") as http:
            answer = await http.get("/sandbox/admin/counters", headers={"Authorization": "Bearer known"})
            statuses.append(answer.status_code)
    assert [200, 200, 403] == statuses


async def test_behaviour_can_be_read_back(sandbox: SandboxDriver) -> None:
    """A change answers all switches, and leaves the others as they were."""
    before = sandbox.running.state.behaviour.as_json()
    assert before | {"narrowing": "sticky"} == await sandbox.behave(narrowing="sticky")


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("PATCH", "/behaviour", {"unheard_of": 1}),
        ("PATCH", "/behaviour", []),
        ("POST", "/failures", {"count": 0}),
        ("POST", "/failures", {"count": True}),
        ("POST", "/failures", {"body": "soup"}),
        ("POST", "/failures", {"status": 99}),
        ("POST", "/failures", {"headers": "none"}),
        ("POST", "/failures", {"delay_seconds": -1}),
        ("POST", "/failures", {"body": "true"}),
        ("POST", "/failures", {"body": "true", "when": "before"}),
        ("POST", "/refresh-tokens", {}),
        ("POST", "/refresh-tokens", {"client_id": "nobody"}),
        ("POST", "/refresh-tokens", {"client_id": "desk-app", "user_id": 7}),
        ("POST", "/refresh-tokens", {"client_id": "desk-app", "user_id": []}),
        ("POST", "/refresh-tokens", {"client_id": "desk-app", "lifetime_seconds": "long"}),
        ("POST", "/refresh-tokens/inspect", {"refresh_token": "art_unknown"}),
        ("POST", "/codes", {"client_id": "desk-app"}),
    ],
)
async def test_wrong_commands_are_400(sandbox: SandboxDriver, verb: str, path: str, body: object) -> None:
    """A command that makes no sense is refused with words."""
    response = await sandbox.http.request(
        verb,
        f"/sandbox/admin{path}",
        json=body,
        headers={"Authorization": f"Bearer {sandbox.running.admin_token}"},
    )
    assert (400, True) == (response.status_code, bool(response.json()["error"]))


async def test_reset_forgets_all_but_the_seed(sandbox: SandboxDriver) -> None:
    """After a reset behaviour, failures, tokens and counters are as at the start; the admin token stays."""
    await sandbox.behave(rotation="none")
    token = await sandbox.refresh_token()
    await sandbox.fail(status=500)
    await sandbox.reset()
    answer = await ask(sandbox, grant_type="refresh_token", refresh_token=token)
    assert (400, 1) == (answer.status_code, (await sandbox.counters())["token_calls"])
    assert "rotate" == sandbox.running.state.behaviour.rotation


async def test_counters_tell_grants_and_outcomes_and_no_secret(sandbox: SandboxDriver) -> None:
    """Token calls are counted by grant type and outcome; no credential is among what is told."""
    token = await sandbox.refresh_token(scopes=["user:information"])
    await ask(sandbox, grant_type="refresh_token", refresh_token=token)
    await ask(sandbox, grant_type="refresh_token", refresh_token=token)
    await ask(sandbox, grant_type="made up")
    await ask(sandbox, grant_type="client_credentials", client_secret="wrong")
    counters = await sandbox.counters()
    assert {
        "refresh_token/issued": 1,
        "refresh_token/invalid_grant": 1,
        "-/unsupported_grant_type": 1,
        "client_credentials/invalid_client": 1,
    } == counters["token_outcomes"]
    assert [] == [secret for secret in (token, "desk-app-secret", "wrong") if secret in str(counters)]


async def lives(sandbox: SandboxDriver) -> list[bool]:
    """Return which refresh tokens are live, oldest first."""
    return [told["live"] for told in await sandbox.refresh_tokens()]


async def test_refresh_tokens_are_listed_by_family(sandbox: SandboxDriver) -> None:
    """Each is told with its family's number, whether it is spent, whether its family ended, and whether it lives."""
    old, other = await sandbox.refresh_token(), await sandbox.refresh_token()
    new = (await refresh(sandbox, old)).json()["refresh_token"]
    await sandbox.revoke(other)
    assert [
        {"token": old, "family": 1, "used": True, "revoked": False, "live": False},
        {"token": other, "family": 2, "used": False, "revoked": True, "live": False},
        {"token": new, "family": 1, "used": False, "revoked": False, "live": True},
    ] == await sandbox.refresh_tokens()


async def test_a_live_token_is_one_that_would_be_redeemed(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """In its grace a spent token lives, one whose place was taken does not, and none does past its life."""
    await sandbox.behave(rotation="last_wins", grace_seconds=30, refresh_token_seconds=60)
    old = await sandbox.refresh_token()
    for _ in range(2):
        await refresh(sandbox, old)
    assert [True, False, True] == await lives(sandbox)
    clock.advance(30)
    assert [False, False, True] == await lives(sandbox)
    clock.advance(30)
    assert [False, False, False] == await lives(sandbox)
