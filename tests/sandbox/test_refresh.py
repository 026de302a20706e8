"""Refresh tokens: rotation, narrowing, life."""

from __future__ import annotations

import pytest

from broker.sandbox import ClientSeed
from tests.sandbox.requests import CREDENTIALS, ask, refresh
from tests.support.sandbox import FakeClock, SandboxDriver, running_sandbox

GRANT = ["account:information", "order:execution", "user:information"]
NARROW = "account:information"


async def api_statuses(sandbox: SandboxDriver, *access_tokens: str) -> list[int]:
    """Return how the API answers each of these access tokens."""
    headers = [{"Authorization": f"Bearer {access}"} for access in access_tokens]
    return [(await sandbox.http.get("/v1/users/me", headers=header)).status_code for header in headers]


async def test_strict_rotation_replaces_the_token(sandbox: SandboxDriver) -> None:
    """A refresh gives a new refresh token with the known prefix, and the old one is used."""
    old = await sandbox.refresh_token(scopes=GRANT)
    reply = (await refresh(sandbox, old)).json()
    assert reply["refresh_token"] != old
    assert reply["refresh_token"].startswith("art_")
    assert (reply["scope"], reply["refresh_token_expires_in"]) == (" ".join(GRANT), 2_592_000)
    assert (await sandbox.inspect(old))["used"] is True


async def test_without_rotation_the_token_stays(sandbox: SandboxDriver) -> None:
    """With rotation `none` the reply names no refresh token, and the presented one works again."""
    await sandbox.behave(rotation="none")
    token = await sandbox.refresh_token()
    replies = [await refresh(sandbox, token) for _ in range(2)]
    assert [(200, False)] * 2 == [(reply.status_code, "refresh_token" in reply.json()) for reply in replies]


@pytest.mark.parametrize("rotation", ["rotate", "none"])
@pytest.mark.parametrize(("kills", "after_a_refresh"), [(False, 200), (True, 401)])
async def test_a_refresh_can_end_earlier_access_tokens(
    sandbox: SandboxDriver,
    rotation: str,
    kills: bool,
    after_a_refresh: int,
) -> None:
    """With the switch, a refresh that succeeds ends the access tokens its family got before, and no others."""
    await sandbox.behave(refresh_kills_access_tokens=kills, rotation=rotation)
    token, other = [await sandbox.refresh_token(scopes=["user:information"]) for _ in range(2)]
    of_other = (await refresh(sandbox, other)).json()["access_token"]
    old = (await refresh(sandbox, token)).json()
    token = old.get("refresh_token", token)
    await refresh(sandbox, token, scope="order:execution")
    assert [200, 200] == await api_statuses(sandbox, old["access_token"], of_other)
    new = (await refresh(sandbox, token)).json()["access_token"]
    assert [after_a_refresh, 200, 200] == await api_statuses(sandbox, old["access_token"], new, of_other)


@pytest.mark.parametrize("rotation", ["rotate", "none"])
@pytest.mark.parametrize(
    ("narrowing", "granted", "kept"),
    [
        ("additional", [NARROW], GRANT),
        ("sticky", [NARROW], [NARROW]),
        ("ignored", GRANT, GRANT),
    ],
)
async def test_narrowing(
    sandbox: SandboxDriver,
    rotation: str,
    narrowing: str,
    granted: list[str],
    kept: list[str],
) -> None:
    """A narrower scope makes a narrower access token; whether the refresh token keeps the grant is the switch."""
    await sandbox.behave(narrowing=narrowing, rotation=rotation)
    old = await sandbox.refresh_token(scopes=GRANT)
    reply = (await refresh(sandbox, old, scope=NARROW)).json()
    assert granted == reply["scope"].split()
    assert kept == (await sandbox.inspect(reply.get("refresh_token", old)))["scopes"]


async def test_wider_than_the_grant_is_refused_and_spends_nothing(sandbox: SandboxDriver) -> None:
    """A scope beyond the grant is invalid_scope (RFC 6749 §6), and the refresh token stays good."""
    token = await sandbox.refresh_token(scopes=[NARROW])
    refused = await refresh(sandbox, token, scope=f"{NARROW} order:execution")
    assert (400, "invalid_scope") == (refused.status_code, refused.json()["error"])
    assert 200 == (await refresh(sandbox, token)).status_code


async def test_expired_revoked_and_foreign_tokens_are_invalid_grants(clock: FakeClock) -> None:
    """A refresh token past its life, of an ended consent or of another client is invalid_grant."""
    clients = (ClientSeed("desk-app", "desk-app-secret"), ClientSeed("other", "other-secret"))
    async with running_sandbox(now=clock, clients=clients) as sandbox:
        foreign = await sandbox.refresh_token("other")
        revoked = await sandbox.refresh_token()
        expired = await sandbox.refresh_token(lifetime_seconds=10)
        await sandbox.revoke(revoked)
        clock.advance(10)
        answers = [await refresh(sandbox, token) for token in (foreign, revoked, expired)]
    assert ["invalid_grant"] * 3 == [answer.json()["error"] for answer in answers]


async def test_the_prefix_can_be_chosen(clock: FakeClock) -> None:
    """Refresh tokens begin with the configured prefix, so that leaks can be searched for."""
    async with running_sandbox(now=clock, refresh_token_prefix="CANARY-") as sandbox:
        token = await sandbox.refresh_token()
        successor = (await refresh(sandbox, token)).json()["refresh_token"]
    assert (True, True) == (token.startswith("CANARY-"), successor.startswith("CANARY-"))


async def test_client_credentials_have_no_refresh_token(sandbox: SandboxDriver) -> None:
    """The client_credentials grant gives no refresh token (RFC 6749 §4.4.3)."""
    reply = (await ask(sandbox, grant_type="client_credentials")).json()
    assert "refresh_token" not in reply
    assert CREDENTIALS["client_id"] == (await sandbox.counters())["last_token_call"]["client_id"]
