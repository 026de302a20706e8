"""`login`: what a person is told, how it ends, and where the secrets of a login in the terminal go."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import authorization_pb2
from broker.cli.login import FAILURES
from broker.sandbox import SandboxConfig
from broker.sandbox.config import ClientSeed, UserSeed
from tests.cli.conftest import Command, ScriptedBroker
from tests.support.sandbox import SandboxDriver, running_sandbox

URL = "https://broker.example/connect/canary-flow"
CODE = "BCDFGHJK"
PASSWORD = "canary-password"
MFA_CODE = "246810"
REDIRECT = "http://127.0.0.1:8080/terminal"
STARTED = authorization_pb2.StartAuthorizationResponse(
    flow_id="canary-flow", authorization_url=URL, short_code=CODE, lifetime=Duration(seconds=600)
)
PATIENCE = 20.0


def told(state: str, failure: str = "UNSPECIFIED", **fields: object) -> authorization_pb2.Authorization:
    """Return a login as the broker tells of it."""
    return authorization_pb2.Authorization(
        grant="desk",
        state=authorization_pb2.AuthorizationState.Value(f"AUTHORIZATION_STATE_{state}"),
        failure=authorization_pb2.AuthorizationFailure.Value(f"AUTHORIZATION_FAILURE_{failure}"),
        **fields,  # type: ignore[arg-type]  # its fields
    )


CONNECTED = told("CONNECTED", subject="ada", provider_scopes=["account:information", "order:execution"])


def answers(broker: ScriptedBroker, *logins: authorization_pb2.Authorization) -> None:
    """Script how a login goes on."""
    broker.answer("StartAuthorization", STARTED)
    for login in logins:
        broker.answer("GetAuthorization", authorization_pb2.GetAuthorizationResponse(authorization=login))


def test_a_person_is_told_where_to_go_and_how_far_it_is(broker: ScriptedBroker, command: Command) -> None:
    """Link, code and progress on stderr; the end alone on stdout."""
    answers(broker, told("STARTED"), told("STARTED"), told("CONFIRMED"), told("EXCHANGING"), CONNECTED)

    ended = command("login", "desk", "--scope", "read", "--scope", "trade")

    assert "connected: the grant desk as ada, granted account:information order:execution\n" == ended.out
    assert 0 == ended.code
    assert [URL, "BCDF-GHJK"] == [word for word in ended.err.split() if word in {URL, "BCDF-GHJK"}]
    assert [
        "waiting for the page to be opened and confirmed …",
        "waiting for the login at the provider …",
        "taking in what the provider gave …",
    ] == [line for line in ended.err.splitlines() if line.endswith("…")]
    (name, request), *_ = broker.calls
    expected = authorization_pb2.StartAuthorizationRequest(grant="desk", scopes=["read", "trade"])
    assert ("StartAuthorization", expected) == (name, request)


def test_json_is_what_became_of_it(broker: ScriptedBroker, command: Command) -> None:
    """One object, with neither link nor code in it."""
    answers(broker, CONNECTED)

    ended = command("login", "desk", "--json", "--any-subject")

    printed = json.loads(ended.out)
    assert ("desk", "AUTHORIZATION_STATE_CONNECTED", "ada") == (printed["grant"], printed["state"], printed["subject"])
    assert "canary" not in ended.out
    assert broker.calls[0][1] == authorization_pb2.StartAuthorizationRequest(grant="desk", any_subject=True)


@pytest.mark.parametrize("failure", FAILURES)
def test_every_failure_says_what_to_do(broker: ScriptedBroker, command: Command, failure: str) -> None:
    """And the command fails."""
    answers(broker, told("FAILED", failure))

    ended = command("login", "desk")

    assert (1, "") == (ended.code, ended.out)
    assert f"error: not connected: {FAILURES[failure]} [{failure}]" == ended.err.splitlines()[-1]


def test_every_failure_of_the_contract_is_known() -> None:
    """None is told without its sentence."""
    names = {name.removeprefix("AUTHORIZATION_FAILURE_") for name in authorization_pb2.AuthorizationFailure.keys()}  # noqa: SIM118 - no mapping
    assert set(FAILURES) == names - {"UNSPECIFIED"}


def test_a_refused_start_is_told(broker: ScriptedBroker, command: Command) -> None:
    """As any call's; there is nothing to cancel."""
    broker.refuse(grpc.StatusCode.NOT_FOUND, "there is no such grant")

    ended = command("login", "desk")

    assert (1, ["StartAuthorization"]) == (ended.code, [name for name, _ in broker.calls])
    assert "there is no such grant" in ended.err


@pytest.mark.parametrize("options", [("--terminal",), ("--redirect-uri", REDIRECT)])
def test_a_login_in_the_terminal_needs_its_redirect_uri(
    broker: ScriptedBroker, command: Command, options: tuple[str, ...]
) -> None:
    """Asked for wrongly, nothing is started."""
    assert (2, []) == (command("login", "desk", *options).code, broker.calls)


# --- in a process of its own -----------------------------------------------------------------------------------------


class Terminal:
    """A command at a terminal of its own, and what it showed."""

    def __init__(self, process: subprocess.Popen[bytes], leader: int) -> None:
        self.process = process
        self.shown = ""
        self._leader = leader

    def expect(self, text: str) -> None:
        """Read on until a text is shown."""
        give_up = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < give_up, self.shown
            assert self._read(), self.shown

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._leader, f"{text}\n".encode())

    def end(self) -> int:
        """Read on until the command's end; return its exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        """Read what there is; False once there is nothing more to come."""
        if not select.select([self._leader], [], [], 0.1)[0]:
            return self.process.poll() is None
        try:
            self.shown += os.read(self._leader, 4096).decode()
        except OSError:  # nobody has the terminal any more
            return False
        return True


@contextmanager
def terminal(folder: Path, *arguments: str) -> Iterator[Terminal]:
    """Run a command at a terminal for the length of the block."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "broker.cli", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=folder,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "BROWSER": "true"},
    )
    os.close(follower)
    try:
        yield Terminal(process, leader)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_login_is_cancelled(broker: ScriptedBroker, tmp_path: Path, number: int) -> None:
    """The broker is told, and the command ends as interrupted ones do."""
    answers(broker, told("STARTED"))
    with terminal(tmp_path, "login", "desk", "--no-browser") as shown:
        shown.expect("waiting for the page")
        shown.process.send_signal(number)
        assert 130 == shown.end()
    assert "the login is cancelled" in shown.shown
    cancelled = [request for name, request in broker.calls if name == "CancelAuthorization"]
    assert [authorization_pb2.CancelAuthorizationRequest(flow_id="canary-flow")] == cancelled


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[SandboxDriver]:
    """A provider with direct steps, and one person with a phone."""
    client = ClientSeed("desk-app", "secret", redirect_uris=(REDIRECT,))
    person = UserSeed(1001, "ada@example.com", password=PASSWORD, mfa=True, mfa_code=MFA_CODE)
    async with running_sandbox(SandboxConfig(clients=(client,), users=(person,))) as driver:
        yield driver


def direct(broker: ScriptedBroker, sandbox: SandboxDriver) -> None:
    """Script a direct login at the sandbox."""
    start = authorization_pb2.DirectLoginStart(
        url=f"{sandbox.url}/v1/oauth2/authorize",
        client_id="desk-app",
        redirect_uri=REDIRECT,
        scope="account:information user:information",
        code_challenge="c" * 43,
    )
    started = authorization_pb2.StartAuthorizationResponse(
        flow_id="canary-flow", lifetime=Duration(seconds=600), direct=start
    )
    broker.answer("StartAuthorization", started)
    done = authorization_pb2.CompleteAuthorizationResponse(authorization=CONNECTED)
    broker.answer("CompleteAuthorization", done)


def at_terminal(folder: Path, *typed: tuple[str, str]) -> tuple[int, str]:
    """Run a login at a terminal, answering its questions; return its exit code and all it showed."""
    everything = ""
    with terminal(folder, "login", "desk", "--terminal", "--redirect-uri", REDIRECT) as shown:
        for question, text in typed:
            shown.expect(question)
            everything, shown.shown = everything + shown.shown, ""
            shown.type(text)
        code = shown.end()
    return code, everything + shown.shown


async def test_a_person_logs_in_at_a_terminal(broker: ScriptedBroker, sandbox: SandboxDriver, tmp_path: Path) -> None:
    """A wrong code may be followed by another; consent is asked in words; only the code that comes of it goes on."""
    direct(broker, sandbox)
    code, shown = await asyncio.to_thread(
        at_terminal,
        tmp_path,
        ("E-mail address: ", "ada@example.com"),
        ("Password: ", PASSWORD),
        ("Code sent to your phone: ", "000000"),
        ("Code sent to your phone: ", MFA_CODE),
        ("for no: ", "yes"),
    )
    assert (0, True) == (code, "connected: the grant desk as ada" in shown), shown
    assert "- account:information" in shown
    ((_, bring),) = [call for call in broker.calls if call[0] == "CompleteAuthorization"]
    assert isinstance(bring, authorization_pb2.CompleteAuthorizationRequest)
    assert ("canary-flow", REDIRECT, True) == (bring.direct.flow_id, bring.direct.redirect_uri, bool(bring.direct.code))
    told_of = "".join(str(request) for _, request in broker.calls)
    for secret in (PASSWORD, MFA_CODE):
        assert (False, False) == (secret in shown, secret in told_of)
    assert (False, False) == (bring.direct.code in shown, "canary-flow" in shown)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ((("Password: ", "wrong"),), "does not know this e-mail address with this password"),
        ((("Password: ", PASSWORD), ("phone: ", MFA_CODE), ("for no: ", "y")), "you did not agree"),
        ((("Password: ", PASSWORD), *([("phone: ", "000000")] * 5)), "too many wrong tries"),
    ],
    ids=["password", "consent", "locked"],
)
async def test_a_login_at_a_terminal_that_fails_is_cancelled(
    broker: ScriptedBroker, sandbox: SandboxDriver, tmp_path: Path, typed: tuple[tuple[str, str], ...], text: str
) -> None:
    """In our own words; nothing is completed, and nothing confirmed that was not agreed to."""
    direct(broker, sandbox)
    code, shown = await asyncio.to_thread(at_terminal, tmp_path, ("E-mail address: ", "ada@example.com"), *typed)
    assert (1, True) == (code, text in shown), shown
    assert ["StartAuthorization", "CancelAuthorization"] == [name for name, _ in broker.calls]
    assert {} == sandbox.running.state.codes
