"""The switches: what is granted, what the reply and the token say of it."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import jwt
import pytest

from broker.sandbox import Behaviour
from broker.sandbox.behaviour import changed
from tests.sandbox.requests import ask, bearer, refresh
from tests.support.sandbox import FakeClock, SandboxDriver

ASKED = "account:information user:information"


def claims_of(access_token: str) -> dict[str, Any]:
    """Return the claims of an access token, unverified."""
    claims: dict[str, Any] = jwt.decode(access_token, options={"verify_signature": False})
    return claims


@pytest.mark.parametrize(
    ("changes", "granted"),
    [
        ({"scope_reply": "honest"}, ASKED),
        ({"scope_reply": "wider"}, "account:information order:execution user:information"),
        ({"scope_reply": "wider", "wider_scopes": ["withdraw"]}, f"{ASKED} withdraw"),
        ({"scope_reply": "narrower"}, "account:information"),
    ],
)
async def test_what_is_granted(sandbox: SandboxDriver, changes: dict[str, object], granted: str) -> None:
    """The sandbox can grant more or less than asked, and says so in reply and token, for every grant type."""
    await sandbox.behave(**changes)
    token = await sandbox.refresh_token(scopes=ASKED.split())
    for response in (
        await ask(sandbox, grant_type="client_credentials", scope=ASKED),
        await refresh(sandbox, token),
    ):
        reply = response.json()
        assert (granted, granted) == (reply["scope"], claims_of(reply["access_token"])["scope"])


async def test_ignored_scope_grants_all_the_client_has(sandbox: SandboxDriver) -> None:
    """Told to ignore scope, the sandbox grants everything the client is registered for."""
    await sandbox.behave(scope_reply="ignore")
    reply = (await ask(sandbox, grant_type="client_credentials", scope=ASKED)).json()
    assert set(reply["scope"].split()) == sandbox.running.state.clients["desk-app"].scopes


@pytest.mark.parametrize(
    ("reply_scope", "said"),
    [("granted", f"{ASKED} withdraw"), ("asked", ASKED), ("absent", None)],
)
async def test_what_the_reply_says(sandbox: SandboxDriver, reply_scope: str, said: str | None) -> None:
    """The reply's scope field can tell what was granted, only what was asked, or be left out."""
    await sandbox.behave(scope_reply="wider", wider_scopes=["withdraw"], reply_scope=reply_scope)
    reply = (await ask(sandbox, grant_type="client_credentials", scope=ASKED)).json()
    assert said == reply.get("scope")


@pytest.mark.parametrize(("form", "claim"), [("string", ASKED), ("list", ASKED.split()), ("absent", None)])
async def test_the_form_of_the_claim(sandbox: SandboxDriver, form: str, claim: object) -> None:
    """The token's scope claim can be a string, a list, or be left out; the token works all the same."""
    await sandbox.behave(scope_claim=form)
    header = await bearer(sandbox, ASKED)
    assert claim == claims_of(header["Authorization"].split()[1]).get("scope")
    assert 200 == (await sandbox.http.get("/v1/users/me", headers=header)).status_code


async def test_fields_of_the_reply_can_be_overridden(sandbox: SandboxDriver) -> None:
    """Any field can be given any value, and null leaves it out."""
    await sandbox.behave(reply_overrides={"expires_in": None, "token_type": "mac", "extra": 1})
    reply = (await ask(sandbox, grant_type="client_credentials")).json()
    assert {"access_token", "token_type", "scope", "extra"} == set(reply)
    assert ("mac", 1) == (reply["token_type"], reply["extra"])


async def test_the_life_of_tokens_can_be_changed(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """Access tokens live as long as the switch says, down to a second; refresh tokens likewise."""
    await sandbox.behave(access_token_seconds=1, refresh_token_seconds=5)
    reply = (await refresh(sandbox, await sandbox.refresh_token())).json()
    assert (1, 5) == (reply["expires_in"], reply["refresh_token_expires_in"])
    header = {"Authorization": f"Bearer {reply['access_token']}"}
    clock.advance(0.5)
    assert 200 == (await sandbox.http.get("/v1/users/me", headers=header)).status_code
    clock.advance(0.5)
    assert 401 == (await sandbox.http.get("/v1/users/me", headers=header)).status_code


@pytest.mark.parametrize("skew", [-86_400, 300, 86_400])
async def test_the_clock_shown_can_be_off(sandbox: SandboxDriver, clock: FakeClock, skew: int) -> None:
    """Times in tokens and the Date of every reply are off by the skew; lives and graces end when they would have."""
    await sandbox.behave(clock_skew_seconds=skew, access_token_seconds=10, rotation="same", grace_seconds=10)
    old = await sandbox.refresh_token(lifetime_seconds=20)
    response = await refresh(sandbox, old)
    reply, shown = response.json(), int(clock()) + skew
    claims = claims_of(reply["access_token"])
    assert (shown, shown, shown + 10) == (claims["iat"], claims["nbf"], claims["exp"])
    assert (10, 2_592_000) == (reply["expires_in"], reply["refresh_token_expires_in"])
    header = {"Authorization": f"Bearer {reply['access_token']}"}
    for seconds, status in ((9, 200), (1, 401)):
        clock.advance(seconds)
        answer = await sandbox.http.get("/v1/users/me", headers=header)
        assert (status, clock() + skew) == (
            answer.status_code,
            parsedate_to_datetime(answer.headers["Date"]).timestamp(),
        )
    assert (400, 1) == ((await refresh(sandbox, old)).status_code, (await sandbox.counters())["reuses"])


@pytest.mark.parametrize(
    "changes",
    [
        {"unheard_of": 1},
        {"narrowing": "sideways"},
        {"access_token_seconds": 0},
        {"access_token_seconds": True},
        {"access_token_seconds": "60"},
        {"rotation": "grace"},
        {"reuse_detection": 1},
        {"refresh_kills_access_tokens": "yes"},
        {"revocation": "never"},
        {"revocation": 1},
        {"metadata": "unsupported"},
        {"grace_seconds": -1},
        {"grace_seconds": float("inf")},
        {"grace_seconds": float("nan")},
        {"wider_scopes": "withdraw"},
        {"reply_overrides": []},
        {"code_seconds": -1},
        {"code_refresh_token": 1},
        {"code_subject": "ada"},
        {"plain_challenge": "yes"},
        {"iss": "maybe"},
        {"state_reply": True},
        {"password_tries": 0},
        {"mfa_tries": 0},
        {"api_requests": -1},
        {"clock_skew_seconds": 86_401},
        {"clock_skew_seconds": -86_401},
        {"clock_skew_seconds": 0.5},
    ],
)
def test_wrong_switches_are_refused(changes: dict[str, object]) -> None:
    """An unknown switch or value is refused by name."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        changed(Behaviour(), changes)
