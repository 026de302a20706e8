"""`login` at a terminal: Ctrl-C, the browser, and the provider's direct steps, where secrets are typed."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import authorization_pb2
from broker.sandbox import SandboxConfig
from broker.sandbox.config import ClientSeed, UserSeed
from tests.cli.conftest import ScriptedBroker
from tests.cli.logins import CONNECTED, URL, answers, told
from tests.exchange.login_steps import LoginSteps, watched_steps
from tests.support.canary import MFA_CODE
from tests.support.raw_server import Connection, http, raw_server
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.terminal import CTRL_C, CTRL_D, terminal

PASSWORD = "canary-password"
REDIRECT = "http://127.0.0.1:8080/terminal"
PATH = "/v1/oauth2/authorize"

# What is expected to be shown, and the keys that are pressed then.
EMAIL_TYPED = ("E-mail address: ", "ada@example.com\n")
PASSWORD_TYPED = ("Password: ", f"{PASSWORD}\n")
CODE_TYPED = ("phone: ", f"{MFA_CODE}\n")
AGREED = ("for no: ", "yes\n")


CANCELLING = ("CancelAuthorization", authorization_pb2.CancelAuthorizationRequest(flow_id="canary-flow"))


@pytest.mark.parametrize("way", ["Ctrl-C", "SIGTERM", "SIGHUP twice"])
async def test_an_interrupted_login_is_cancelled(broker: ScriptedBroker, way: str) -> None:
    """The broker is told, whatever else is heard meanwhile, and the command ends as interrupted ones do."""
    answers(broker, told("STARTED"))
    async with terminal("login", "desk", "--no-browser", "--json") as shown:
        await shown.expect("waiting for the page")
        if way == "Ctrl-C":
            shown.press(CTRL_C)
        elif way == "SIGTERM":
            shown.process.send_signal(signal.SIGTERM)
        else:
            broker.before["CancelAuthorization"] = lambda: shown.process.send_signal(signal.SIGHUP)
            shown.process.send_signal(signal.SIGHUP)
        assert 130 == await shown.end()
    assert ["the login is cancelled"] == shown.shown.splitlines()[-1:]
    assert [CANCELLING] == [call for call in broker.calls if call[0] == CANCELLING[0]]


async def test_a_login_whose_terminal_is_closed_is_cancelled(broker: ScriptedBroker) -> None:
    """The broker is told, though there is nowhere to say so."""
    answers(broker, told("STARTED"))
    async with terminal("login", "desk", "--no-browser") as shown:
        await shown.expect("waiting for the page")
        await shown.close()
        await shown.end()
    assert [CANCELLING] == [call for call in broker.calls if call[0] == CANCELLING[0]]


@pytest.mark.parametrize(
    ("options", "display", "opened"),
    [((), ":0", [URL]), (("--no-browser",), ":0", []), ((), "", [])],
    ids=["display", "not wanted", "no display"],
)
async def test_the_page_is_opened_where_a_browser_has_a_window(
    broker: ScriptedBroker, tmp_path: Path, options: tuple[str, ...], display: str, opened: list[str]
) -> None:
    """A browser of the terminal would take it from whoever reads the code there."""
    answers(broker, told("STARTED"), CONNECTED)
    browser, log = tmp_path / "www-browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {log}\n')
    browser.chmod(0o700)
    env = {"PATH": str(tmp_path), "TERM": "xterm", "BROWSER": "", "DISPLAY": display, "WAYLAND_DISPLAY": ""}
    async with terminal("login", "desk", *options, env=env) as shown:
        assert 0 == await shown.end(), shown.shown
    assert opened == (log.read_text().split() if log.exists() else [])


async def test_progress_is_one_line_that_is_rewritten(broker: ScriptedBroker) -> None:
    """Blanks cover what was longer; the end has a line of its own."""
    answers(broker, told("STARTED"), told("CONFIRMED"), CONNECTED)
    async with terminal("login", "desk") as shown:
        assert 0 == await shown.end()
    before = "waiting for the page to be opened and the code to be typed …"
    after = "waiting for the login at the provider …"
    assert f"\r{before}\r{after.ljust(len(before))}\r\nconnected: the grant desk as ada" in shown.shown


# --- the direct steps ------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[SandboxDriver]:
    """A provider with direct steps, and one person with a phone."""
    client = ClientSeed("desk-app", "secret", name="Trading Desk", redirect_uris=(REDIRECT,))
    person = UserSeed(1001, "ada@example.com", password=PASSWORD, mfa=True, mfa_code=MFA_CODE)
    async with running_sandbox(SandboxConfig(clients=(client,), users=(person,))) as driver:
        yield driver


def direct(broker: ScriptedBroker, root: str) -> None:
    """Script a direct login at a provider, and what comes of cancelling it."""
    start = authorization_pb2.DirectLoginStart(
        url=f"{root}{PATH}",
        client_id="desk-app",
        redirect_uri=REDIRECT,
        scope="account:information user:information",
        code_challenge="c" * 43,
    )
    started = authorization_pb2.StartAuthorizationResponse(
        flow_id="canary-flow", lifetime=Duration(seconds=600), direct=start
    )
    answers(broker)
    broker.answers["StartAuthorization"] = [started]
    done = authorization_pb2.CompleteAuthorizationResponse(authorization=CONNECTED)
    broker.answer("CompleteAuthorization", done)


async def at_terminal(*typed: tuple[str, str]) -> tuple[int, str]:
    """Run a login at a terminal, answering its questions; return its exit code and all it showed."""
    async with terminal("login", "desk", "--terminal", "--redirect-uri", REDIRECT) as shown:
        for question, keys in typed:
            await shown.expect(question)
            shown.press(keys)
        return await shown.end(), shown.shown


def secrets_of(steps: LoginSteps) -> set[str]:
    """Return what came and went that opens something."""
    replies = {str(reply[name]) for reply in steps.replies for name in ("next_step_auth_id", "code") if name in reply}
    return replies | {PASSWORD, MFA_CODE, "canary-flow"}


async def test_a_person_logs_in_at_a_terminal(broker: ScriptedBroker, sandbox: SandboxDriver) -> None:
    """A wrong code may be followed by another; consent is asked in words; only the code that comes of it goes on."""
    direct(broker, sandbox.url)
    with watched_steps(sandbox.running.app) as steps:
        typos = [("phone: ", "12345\n"), ("six digits", ""), ("phone: ", "000000\n"), ("code is wrong", "")]
        code, shown = await at_terminal(EMAIL_TYPED, PASSWORD_TYPED, *typos, CODE_TYPED, AGREED)
    assert (0, True) == (code, "connected: the grant desk as ada" in shown), shown
    assert "Trading Desk asks to be allowed" in shown
    assert ["  - account:information", "  - user:information"] == [
        line for line in shown.splitlines() if line.startswith("  - ")
    ]
    assert ["", "/mfa", "/mfa", "/confirm"] == [path for path, _ in steps.received]
    ((_, bring),) = [call for call in broker.calls if call[0] == "CompleteAuthorization"]
    brought = authorization_pb2.DirectCode(
        flow_id="canary-flow", code=str(steps.replies[-1]["code"]), redirect_uri=REDIRECT
    )
    assert authorization_pb2.CompleteAuthorizationRequest(direct=brought) == bring
    assert [] == [secret for secret in secrets_of(steps) if secret in shown]
    told_of = "".join(str(request) for _, request in broker.calls)
    assert [] == [secret for secret in secrets_of(steps) - {"canary-flow", brought.code} if secret in told_of]


async def test_who_allowed_it_before_is_told_so_and_not_asked(broker: ScriptedBroker, sandbox: SandboxDriver) -> None:
    """The provider remembers."""
    direct(broker, sandbox.url)
    with watched_steps(sandbox.running.app) as steps:
        steps.changes["/mfa"] = {"consent_required": False}
        code, shown = await at_terminal(EMAIL_TYPED, PASSWORD_TYPED, CODE_TYPED)
    assert (0, False) == (code, "Do you agree" in shown), shown
    assert "you allowed Trading Desk this before: account:information, user:information" in shown


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ([("Password: ", "wrong\n")], "the provider does not know this e-mail address with this password"),
        ([PASSWORD_TYPED, CODE_TYPED, ("for no: ", "y\n")], "you did not agree"),
        ([PASSWORD_TYPED, CODE_TYPED, ("for no: ", "\n")], "you did not agree"),
        ([PASSWORD_TYPED, *([("phone: ", "000000\n")] * 5)], "there were too many wrong tries"),
        ([PASSWORD_TYPED, ("phone: ", CTRL_D)], "there is nobody to ask"),
        ([PASSWORD_TYPED, CODE_TYPED, ("for no: ", CTRL_D)], "there is nobody to ask"),
    ],
    ids=["password", "y", "return", "locked", "end of input", "end of input at the question"],
)
async def test_a_login_at_a_terminal_that_fails_is_cancelled(
    broker: ScriptedBroker, sandbox: SandboxDriver, typed: list[tuple[str, str]], text: str
) -> None:
    """In our own words; nothing is completed, nothing confirmed that was not agreed to, and no secret is shown."""
    direct(broker, sandbox.url)
    with watched_steps(sandbox.running.app) as steps:
        code, shown = await at_terminal(EMAIL_TYPED, *typed)
    assert (1, True) == (code, f"\nerror: not connected: {text}" in shown), shown
    assert ["StartAuthorization", "CancelAuthorization"] == [name for name, _ in broker.calls]
    assert "/confirm" not in [path for path, _ in steps.received]
    assert [] == [secret for secret in secrets_of(steps) if secret in shown]


async def test_ctrl_c_at_a_question_cancels(broker: ScriptedBroker, sandbox: SandboxDriver) -> None:
    """The login ends at the broker, before anything went to the provider."""
    direct(broker, sandbox.url)
    with watched_steps(sandbox.running.app) as steps:
        code, shown = await at_terminal(EMAIL_TYPED, ("Password: ", CTRL_C))
    assert (130, ["the login is cancelled"], []) == (code, shown.splitlines()[-1:], steps.received)
    assert ["StartAuthorization", "CancelAuthorization"] == [name for name, _ in broker.calls]


async def test_nobody_is_asked_for_a_password_that_would_go_in_plaintext(broker: ScriptedBroker) -> None:
    """Even where the broker says so."""
    direct(broker, "http://aries.example")
    code, shown = await at_terminal()
    assert (1, True, False) == (code, "is not https" in shown, "E-mail" in shown), shown


async def test_a_refused_consent_is_not_taken_for_a_wrong_code(broker: ScriptedBroker) -> None:
    """401 says so before the person was asked alone; the code is not asked for again."""
    step = {"next_step_auth_id": "canary-step", "consent_required": True, "client_name": "x\x1b[2Jy", "scopes": ["a:b"]}

    async def script(connection: Connection) -> None:
        await connection.asked.wait()
        path = bytes(connection.received).split()[1].decode().removeprefix(PATH)
        status = "401 Unauthorized" if path == "/confirm" else "200 OK"
        body = json.dumps(step | {"is_mfa": path == "", "error": "canary-step"}).encode()
        await connection.send(http(status, body, "Connection: close"))

    async with raw_server(script) as server:
        direct(broker, f"http://127.0.0.1:{server.port}")
        code, shown = await at_terminal(EMAIL_TYPED, PASSWORD_TYPED, CODE_TYPED, AGREED)
    assert (1, 1) == (code, shown.count("phone: ")), shown
    assert "error: not connected: the provider refused, with status 401" in shown
    assert (False, False, True) == ("canary-step" in shown, "\x1b" in shown, "x\\x1b[2Jy asks" in shown)
