"""Authorization requests that are refused, and what redirects bring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.sandbox import ClientSeed
from broker.sandbox.redirects import WRONG_ISSUER, build_redirect
from tests.sandbox.browser import Browser, browser
from tests.sandbox.logins import PLAIN, PUBLIC, REDIRECT, S256, TO_PUBLIC, VERIFIER, exchange
from tests.support.sandbox import SandboxDriver, running_sandbox


@pytest.fixture
async def ada(sandbox: SandboxDriver) -> AsyncIterator[Browser]:
    """A browser."""
    async with browser(sandbox) as hers:
        yield hers


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"client_id": ""}, 400),
        ({"client_id": "nobody"}, 403),
        ({"client_id": ["desk-app", "desk-app"]}, 400),
        ({"redirect_uri": ""}, 400),
        ({"redirect_uri": "https://attacker.example/callback"}, 403),
        ({"redirect_uri": REDIRECT + "/"}, 403),
        ({"redirect_uri": REDIRECT + "?a=b"}, 403),
        ({"redirect_uri": REDIRECT.replace("8080", "8081")}, 403),
        ({"redirect_uri": REDIRECT.replace("127.0.0.1", "localhost")}, 403),
        ({"redirect_uri": [REDIRECT, "https://attacker.example/callback"]}, 400),
        ({"redirect_uri": [REDIRECT, REDIRECT]}, 400),
    ],
    ids=str,
)
async def test_nobody_is_sent_to_who_is_not_known(ada: Browser, params: dict[str, Any], status: int) -> None:
    """An unknown client, or a redirect URI that is not its own to the letter, gets a page, whatever else is wrong."""
    for more in ({}, {"response_type": "token"}):
        await ada.ask(**{**more, **params})
        assert (status, "", "") == (ada.last.status_code, ada.sent_to, ada.step)
        assert "This did not work" in ada.page.text


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"response_type": ""}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"scope": "withdraw"}, "invalid_scope"),
        ({"scope": ["user:information", "user:information"]}, "invalid_request"),
        ({"nonsense": ["a", "b"]}, "invalid_request"),
        (PLAIN, "invalid_request"),
        ({"code_challenge": VERIFIER}, "invalid_request"),
        ({**S256, "code_challenge_method": "S512"}, "invalid_request"),
        ({**S256, "code_challenge": "short"}, "invalid_request"),
        ({**S256, "code_challenge": S256["code_challenge"] + "="}, "invalid_request"),
        ({"code_challenge_method": "S256"}, "invalid_request"),
    ],
    ids=str,
)
async def test_what_else_is_wrong_is_told_to_the_client(ada: Browser, params: dict[str, Any], error: str) -> None:
    """By a redirect with the error, a description and the state (RFC 6749 §4.1.2.1)."""
    answer = (await ada.ask(**params)).answer
    assert (REDIRECT, error, "its-state") == (ada.sent_to.partition("?")[0], answer["error"], answer["state"])
    assert {"error", "error_description", "state"} == set(answer)


async def test_a_state_that_is_there_twice_is_none(ada: Browser) -> None:
    """Nobody knows which one is meant."""
    assert {"error", "error_description"} == set((await ada.ask(state=["one", "two"])).answer)


async def test_an_unregistered_scope_may_be_dropped_instead(sandbox: SandboxDriver, ada: Browser) -> None:
    """Told to drop unregistered scopes, the sandbox asks for the others."""
    await sandbox.behave(unregistered_scope="drop")
    await (await ada.ask(scope="user:information withdraw")).log_in()
    assert (True, False) == ("user:information" in ada.page.text, "withdraw" in ada.page.text)


async def test_a_public_client_needs_a_challenge() -> None:
    """It has no secret to show at the exchange; its redirect URI may have a scheme of its own."""
    async with running_sandbox(clients=(PUBLIC,)) as sandbox, browser(sandbox) as ada:
        assert "invalid_request" == (await ada.ask(**TO_PUBLIC)).answer["error"]
        await (await ada.ask(**TO_PUBLIC, **S256)).log_in()
        code = (await ada.send()).answer["code"]
        assert ada.sent_to.startswith("com.example.app:/callback?code=")
        params = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, **TO_PUBLIC}
        assert 200 == (await sandbox.http.post("/v1/oauth2/token", json=params)).status_code


async def test_a_client_without_redirect_uris_gets_no_codes() -> None:
    """There is nowhere to send them."""
    async with running_sandbox(clients=(ClientSeed("desk-app", "secret"),)) as sandbox, browser(sandbox) as ada:
        assert 403 == (await ada.ask()).last.status_code


async def test_a_redirect_uri_keeps_its_query() -> None:
    """The answer comes beside it (RFC 6749 §3.1.2)."""
    uri = "https://app.example.com/callback?tenant=a%20b"
    client = ClientSeed("desk-app", "desk-app-secret", redirect_uris=(uri,))
    async with running_sandbox(clients=(client,)) as sandbox, browser(sandbox) as ada:
        await (await ada.ask(redirect_uri=uri)).log_in()
        await ada.send()
        assert ada.sent_to.startswith(f"{uri}&code=")
        assert 200 == (await exchange(sandbox, ada.answer["code"], redirect_uri=uri)).status_code


@pytest.mark.parametrize("state", ["a b&c=d#e+f%20\u00e9", "x" * 4_000], ids=["odd", "long"])
async def test_a_state_comes_back_as_it_was(ada: Browser, state: str) -> None:
    """Whatever is in it, with a code and with an error."""
    assert state == (await ada.ask(state=state, scope="withdraw")).answer["state"]
    await (await ada.ask(state=state)).log_in()
    assert state == (await ada.send()).answer["state"]


@pytest.mark.parametrize(("switch", "state"), [("kept", "its-state"), ("altered", "its-statex"), ("missing", None)])
async def test_what_becomes_of_the_state(sandbox: SandboxDriver, ada: Browser, switch: str, state: str | None) -> None:
    """It can be altered or missing, in every redirect."""
    await sandbox.behave(state_reply=switch)
    assert state == (await ada.ask(scope="withdraw")).answer.get("state")
    await (await ada.ask()).log_in()
    assert state == (await ada.send()).answer.get("state")


@pytest.mark.parametrize("switch", ["kept", "altered", "missing"])
def test_where_there_was_no_state_none_comes_back(sandbox: SandboxDriver, switch: str) -> None:
    """Whatever becomes of others."""
    running = sandbox.running.state
    assert "https://a.example/?code=b" == build_redirect(running, "https://a.example/", None, {"code": "b"})


@pytest.mark.parametrize(("switch", "iss"), [("off", None), ("on", ""), ("wrong", WRONG_ISSUER), ("missing", None)])
async def test_who_a_redirect_comes_from(sandbox: SandboxDriver, ada: Browser, switch: str, iss: str | None) -> None:
    """The issuer, another one or none, with a code, with an error, and when cancelled (RFC 9207 §2)."""
    await sandbox.behave(iss=switch)
    expected = sandbox.url if iss == "" else iss
    answers = [(await ada.ask(scope="withdraw")).answer]
    answers.append((await (await ada.ask()).send(answer="cancel")).answer)
    await (await ada.ask()).log_in()
    answers.append((await ada.send()).answer)
    assert [expected] * 3 == [answer.get("iss") for answer in answers]


async def test_a_consent_may_be_answered_with_any_error(sandbox: SandboxDriver, ada: Browser) -> None:
    """In place of a code, also one that no document names; only once the steps before were taken."""
    await sandbox.behave(redirect_error="out_of_cheese")
    assert "password" == (await (await ada.ask()).send(step="consent")).step
    await ada.log_in()
    assert {"error": "out_of_cheese", "state": "its-state"} == (await ada.send()).answer


async def test_a_code_works_once(sandbox: SandboxDriver, ada: Browser) -> None:
    """Replayed, it ends what it gave."""
    await (await ada.ask()).log_in()
    code = (await ada.send()).answer["code"]
    first, second = [await exchange(sandbox, code) for _ in range(2)]
    assert (200, 400) == (first.status_code, second.status_code)
    assert True is (await sandbox.inspect(first.json()["refresh_token"]))["revoked"]
