"""`login`: what a person is told, what a program is, and how it ends."""

from __future__ import annotations

import json

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import authorization_pb2
from broker.cli.access import Access
from broker.cli.login_calls import Login
from broker.cli.login_texts import AWAY, CANCELLED, FAILURES, NOT_CANCELLED, describe_cancelled
from broker.cli.progress import Progress
from tests.cli.conftest import Command, ScriptedBroker
from tests.cli.logins import CONNECTED, STARTED, URL, answers, told
from tests.support.world import BrokerError

REDIRECT = "http://127.0.0.1:8080/terminal"


def test_a_person_is_told_where_to_go_and_how_far_it_is(broker: ScriptedBroker, command: Command) -> None:
    """Link, code and progress on stderr, where nobody sits a line for each change; the end alone on stdout."""
    answers(broker, told("STARTED"), told("STARTED"), told("CONFIRMED"), told("EXCHANGING"), CONNECTED)

    ended = command("login", "desk", "--scope", "read", "--scope", "trade")

    assert "connected: the grant desk as ada, granted account:information order:execution\n" == ended.out
    assert 0 == ended.code
    assert [
        "Open this page within 10 minutes, and type the code there:",
        URL,
        "BCDF-GHJK",
        "waiting for the page to be opened and the code to be typed …",
        "waiting for the login at the provider …",
        "taking in what the provider gave …",
    ] == [line.strip() for line in ended.err.splitlines() if line]
    (name, request), *_ = broker.calls
    expected = authorization_pb2.StartAuthorizationRequest(grant="desk", scopes=["read", "trade"])
    assert ("StartAuthorization", expected) == (name, request)


@pytest.mark.parametrize(
    ("end", "code", "fields"),
    [
        (CONNECTED, 0, ("AUTHORIZATION_STATE_CONNECTED", "AUTHORIZATION_FAILURE_UNSPECIFIED", "ada")),
        (told("FAILED", "DENIED"), 1, ("AUTHORIZATION_STATE_FAILED", "AUTHORIZATION_FAILURE_DENIED", "")),
    ],
    ids=["connected", "failed"],
)
def test_json_is_what_became_of_it(
    broker: ScriptedBroker,
    command: Command,
    end: authorization_pb2.Authorization,
    code: int,
    fields: tuple[str, str, str],
) -> None:
    """One object, with neither link nor code in it."""
    answers(broker, told("STARTED"), end)

    ended = command("login", "desk", "--json", "--any-subject")

    printed = json.loads(ended.out)
    assert (code, fields) == (ended.code, (printed["state"], printed["failure"], printed["subject"]))
    assert [] == [secret for secret in ("canary", URL, "BCDF") if secret in ended.out]
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


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--terminal",), "--terminal needs --redirect-uri"),
        (("--redirect-uri", REDIRECT), "is for --terminal alone"),
        (("--terminal", "--redirect-uri", REDIRECT), "it needs a terminal"),
    ],
    ids=["no redirect URI", "no terminal login", "nobody sits here"],
)
def test_a_login_in_the_terminal_that_cannot_be_is_not_started(
    broker: ScriptedBroker, command: Command, options: tuple[str, ...], text: str
) -> None:
    """It says why."""
    ended = command("login", "desk", *options)

    assert (2, True, []) == (ended.code, text in ended.err, broker.calls)


def test_a_broker_that_stays_away_is_not_waited_for_longer_than_the_login_is_open(
    broker: ScriptedBroker, command: Command
) -> None:
    """Then its error is told."""
    answers(broker)
    broker.answers["StartAuthorization"] = [
        authorization_pb2.StartAuthorizationResponse(flow_id="canary-flow", lifetime=Duration(seconds=1))
    ]
    broker.refuse(grpc.StatusCode.UNAVAILABLE, "going away", name="GetAuthorization")

    stopped = command("login", "desk")

    assert 1 == stopped.code
    assert [f"{AWAY} …", CANCELLED, "error: going away [UNAVAILABLE]"] == stopped.err.splitlines()[-3:]


def test_a_broker_that_does_not_tell_any_more_ends_the_wait(broker: ScriptedBroker, command: Command) -> None:
    """A refusal does not go away by waiting."""
    answers(broker)
    broker.refuse(grpc.StatusCode.PERMISSION_DENIED, "no such login", name="GetAuthorization")

    ended = command("login", "desk")

    assert (1, False) == (ended.code, AWAY in ended.err)
    assert [CANCELLED, "error: no such login [PERMISSION_DENIED]"] == ended.err.splitlines()[-2:]


@pytest.mark.parametrize(
    ("login", "text"),
    [
        (told("FAILED", "CANCELLED"), CANCELLED),
        (told("FAILED", "EXPIRED"), "there was nothing to cancel: the login had failed already"),
        (told("CONNECTED"), "too late to cancel: the grant is connected"),
        (told("EXCHANGING"), "too late to cancel: the provider has answered, and the broker goes on with that"),
        (told("RECEIVED"), "too late to cancel: the provider has answered, and the broker goes on with that"),
    ],
    ids=["cancelled", "failed", "connected", "exchanging", "received"],
)
def test_what_became_of_cancelling_is_said_as_it_is(login: authorization_pb2.Authorization, text: str) -> None:
    """A login that the provider answered is not cancelled."""
    assert text == describe_cancelled(login)


# --- the code of a direct login --------------------------------------------------------------------------------------


def brought(broker: ScriptedBroker) -> authorization_pb2.Authorization:
    """Start a login, and bring a code."""
    broker.answer("StartAuthorization", STARTED)
    with Access(broker.address).open() as opened, Progress() as progress:
        request = authorization_pb2.StartAuthorizationRequest(grant="desk")
        return Login.start(opened, request, progress).bring("canary-code")


def get_answers(broker: ScriptedBroker, *logins: authorization_pb2.Authorization) -> None:
    """Script what GetAuthorization tells."""
    for login in logins:
        broker.answer("GetAuthorization", authorization_pb2.GetAuthorizationResponse(authorization=login))


@pytest.mark.parametrize("status", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
def test_a_code_that_was_taken_in_without_an_answer_is_followed(broker: ScriptedBroker, status: str) -> None:
    """It is not brought again: the broker has it."""
    broker.refuse(grpc.StatusCode[status], "late", name="CompleteAuthorization")
    get_answers(broker, told("EXCHANGING"), told("RECEIVED"), CONNECTED)

    assert CONNECTED == brought(broker)
    assert 1 == [name for name, _ in broker.calls].count("CompleteAuthorization")


def test_a_code_that_did_not_arrive_is_an_error(broker: ScriptedBroker) -> None:
    """The broker still waits for it."""
    broker.refuse(grpc.StatusCode.UNAVAILABLE, "away", name="CompleteAuthorization")
    get_answers(broker, told("STARTED"))

    with pytest.raises(BrokerError, match=r"^away$"):
        brought(broker)


def test_a_login_that_is_not_over_with_its_code_is_followed(broker: ScriptedBroker) -> None:
    """What was received is made the grant's a little later."""
    received = authorization_pb2.CompleteAuthorizationResponse(authorization=told("RECEIVED"))
    broker.answer("CompleteAuthorization", received)
    get_answers(broker, told("RECEIVED"), CONNECTED)

    assert CONNECTED == brought(broker)


def test_a_broker_that_cannot_be_told_to_cancel_is_no_further_error(broker: ScriptedBroker) -> None:
    """The login ends by itself."""
    broker.answer("StartAuthorization", STARTED)
    broker.refuse(grpc.StatusCode.UNAVAILABLE, "away", name="CancelAuthorization")
    with Access(broker.address).open() as opened, Progress() as progress:
        request = authorization_pb2.StartAuthorizationRequest(grant="desk")

        assert NOT_CANCELLED == Login.start(opened, request, progress).cancel()
