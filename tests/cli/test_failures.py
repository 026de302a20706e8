"""Failures: one clear sentence, a non-zero exit, never a traceback, never a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from tests.cli.conftest import Command, ScriptedBroker

LIST = ("admin", "clients", "list")


def test_the_reason_stands_behind_the_sentence(broker: ScriptedBroker, command: Command) -> None:
    """Text, reason, wrong fields, metadata and waiting time, each on a line."""
    broker.refuse(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "slow down",
        ErrorInfo(domain="broker.aries", reason="RATE_LIMITED", metadata={"limit": "per-caller"}),
        RetryInfo(retry_delay=Duration(seconds=2)),
        BadRequest(field_violations=[BadRequest.FieldViolation(field="scopes", description="none")]),
    )

    outcome = command("token", "get", "--scope", "read")

    assert 1 == outcome.code
    assert [
        "error: slow down [RATE_LIMITED]",
        "  scopes: none",
        "  limit: per-caller",
        "  try again in 2.0 s",
    ] == outcome.err.splitlines()


@pytest.mark.parametrize(
    "arguments", [("token", "get", "--scope", "read"), LIST, ("apply", "-f", "empty.yaml")], ids=lambda words: words[0]
)
def test_a_program_is_told_of_a_refusal_in_json(
    broker: ScriptedBroker, command: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """With --json one object on stderr has all that the sentence says, in ASCII; the exit code stays."""
    (tmp_path / "empty.yaml").write_text("revision: 1\n")
    broker.refuse(
        grpc.StatusCode.INVALID_ARGUMENT,
        "no\x7f\u202e",
        ErrorInfo(domain="broker.aries", reason="SCOPE_NOT_SUPPORTED", metadata={"scope": "x"}),
        RetryInfo(retry_delay=Duration(seconds=2)),
        BadRequest(field_violations=[BadRequest.FieldViolation(field="scopes", description="none")]),
    )

    outcome = command(*arguments, "--json")

    assert (1, "", True) == (outcome.code, outcome.out, outcome.err.isascii() and "\x7f" not in outcome.err)
    expected = {
        "reason": "SCOPE_NOT_SUPPORTED",
        "status": "INVALID_ARGUMENT",
        "message": "no\x7f\u202e",
        "metadata": {"scope": "x"},
        "fields": {"scopes": "none"},
        "retry_after": 2.0,
    }
    assert {"error": expected} == json.loads(outcome.err)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("token", "get", "--scope", "read", "--api-key-file", "missing"), 2, "cannot read missing"),
        (("token", "get"), 2, "Missing option '--scope'"),
        (("token", "get", "--scope", "read", "--min-lifetime", "nan"), 2, "nan is not a number"),
        (("no-such-command",), 2, "No such command"),
        (("apply", "-f", "missing.yaml"), 1, "missing.yaml: cannot be read"),
        (("admin", "clients", "add-secret", "x"), 2, "say where the secret is"),
        (("keys", "new-kek", "no-folder/kek"), 1, "cannot be written"),
    ],
)
def test_a_program_is_told_of_what_never_reached_the_broker(
    broker: ScriptedBroker, command: Command, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """The same object, without a reason and a status, whoever found the mistake."""
    outcome = command(*arguments, "--json")

    told = json.loads(outcome.err)["error"]
    assert (code, "", "", "") == (outcome.code, outcome.out, told["reason"], told["status"])
    assert words in told["message"]


def test_a_hostile_broker_does_not_steer_the_terminal(broker: ScriptedBroker, command: Command) -> None:
    """A broker's text is escaped like anything else from elsewhere."""
    broker.refuse(grpc.StatusCode.INTERNAL, "x\x1b[2J\u202ey")

    assert "error: x\\x1b[2J\\u202ey [INTERNAL]\n" == command(*LIST).err


def test_a_broker_that_is_not_there(broker: ScriptedBroker, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is a sentence with UNAVAILABLE."""
    monkeypatch.setenv("BROKER_ADDRESS", "127.0.0.1:1")

    outcome = command(*LIST)

    assert 1 == outcome.code
    assert "[UNAVAILABLE]" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("apply", "-f", "missing.yaml"), 1, "error: missing.yaml: cannot be read: No such file"),
        (("admin", "clients", "put", "-f", "missing.yaml"), 1, "missing.yaml: No such file"),
        (("admin", "clients", "add-secret", "x", "--secret-file", "missing"), 1, "missing: No such file"),
        (("token", "get", "--scope", "read", "--api-key-file", "missing"), 2, "cannot read missing"),
        (("token", "get", "--scope", "read", "--api-key-file", "/dev/zero"), 2, "/dev/zero: it is not a plain file"),
        (("token", "get", "--scope", "read", "--min-lifetime", "1e400"), 2, "inf is not a number of seconds"),
        (("token", "get", "--scope", "read", "--min-lifetime", "nan"), 2, "nan is not a number of seconds"),
        (("token", "get", "--scope", "read", "--min-lifetime", "-1"), 2, "-1.0 is not a number of seconds"),
        (("token", "get", "--scope", "read", "--min-lifetime", "1e12"), 2, "is not a number of seconds"),
        (("token", "get"), 2, "Missing option '--scope'"),
        (
            ("token", "get", "--scope", "\udcff"),
            1,
            "error: what was given, as an argument or by the environment, is not",
        ),
        (("admin", "clients", "remove", "d\udce9sk"), 1, "is not text in UTF-8"),
        (("no-such-command",), 2, "No such command"),
        (("keys", "new-kek", "no-folder/kek"), 1, "cannot be written"),
        (("sandbox", "--host", "192.0.2.1"), 2, "loopback"),
        (("sandbox", "--client", "{nonsense: 1}"), 2, "unknown field"),
        (("sandbox", "--seed", "missing.yaml"), 1, "missing.yaml: No such file"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    broker: ScriptedBroker, command: Command, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Files, options and commands."""
    outcome = command(*arguments)

    assert code == outcome.code
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert [] == broker.calls


def test_serve_names_the_configuration_that_is_not_there(tmp_path: Path) -> None:
    """A start that fails on its file says which file, without a line there is not."""
    command = [sys.executable, "-m", "broker.cli", "serve", "--config", "missing.yaml"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603 - our own

    assert 1 == ended.returncode
    assert "error: missing.yaml: cannot be read: No such file or directory\n" in ended.stderr


def test_settings_that_cannot_be_used_are_named_all_at_once(
    broker: ScriptedBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`serve` and `migrate` look at the settings first, and at all of them."""
    monkeypatch.setenv("BROKER_LISTN", "x")
    monkeypatch.setenv("BROKER_LOG_LEVEL", "loud")

    for name in ("serve", "migrate"):
        outcome = command(name)

        assert 1 == outcome.code
        assert "BROKER_LISTN: no such setting; did you mean BROKER_LISTEN?" in outcome.err
        assert "BROKER_LOG_LEVEL" in outcome.err
        assert "Traceback" not in outcome.err


def test_a_bug_is_named_by_its_place_alone(
    broker: ScriptedBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of an error nobody expected may quote a secret, so it is not shown."""

    def burst(bug: Exception) -> None:
        raise bug

    for bug in (RuntimeError("canary-secret"), UnicodeEncodeError("utf-8", "canary-\ud800", 7, 8, "half a character")):
        monkeypatch.setattr("broker.cli.admin.clients.read_secret", lambda *_, bug=bug, **__: burst(bug))

        outcome = command("admin", "clients", "add-secret", "desk", "--stdin")

        assert 1 == outcome.code
        assert outcome.err.startswith(f"error: a bug: {type(bug).__name__} at test_failures.py:")
        assert "canary" not in outcome.err


def test_the_base_install_says_what_is_missing(tmp_path: Path) -> None:
    """Without the server's packages the command says how to get them and exits 2."""
    program = "import sys; sys.modules.update(typer=None); import broker.cli; broker.cli.main()"
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert (2, "") == (ended.returncode, ended.stdout)
    assert "pip install 'aries-broker[server]'" in ended.stderr


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    """`aries-broker … | head` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "import broker.cli; broker.cli.main()", "--version"]
    with os.fdopen(write, "w") as closed:
        ended = subprocess.run(  # noqa: S603 - our own program
            command, stdout=closed, stderr=subprocess.PIPE, check=False, cwd=tmp_path
        )

    assert b"" == ended.stderr
