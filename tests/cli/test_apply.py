"""`apply`: the file becomes the request, secrets are read here, and what is wrong is told with its line."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from aries.broker.admin.v1 import config_pb2
from broker.adapters.config_file import read_config
from broker.cli.messages import build_config
from broker.rpc.listeners import MAX_MESSAGE
from tests.cli.conftest import Command, ScriptedBroker

FILE = """\
revision: 4
providers:
  - {name: aries, preset: aries, scopes: {withdraw: []}}
clients:
  - {name: desk, provider: aries, client_id: desk-app, secret_env: THE_SECRET}
  - {name: other, provider: aries, client_id: other-app, secret_file: SECRET_FILE}
roles:
  - {role: auditor, callers: ["key:eve"], name: eve}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose secrets lie in a variable and in a file."""
    monkeypatch.setenv("THE_SECRET", "canary-one")
    (tmp_path / "secret").write_text("canary-two\n")
    path = tmp_path / "broker.yaml"
    path.write_text(FILE.replace("SECRET_FILE", str(tmp_path / "secret")))
    return path


def test_the_file_and_its_secrets_are_sent(broker: ScriptedBroker, command: Command, file: Path) -> None:
    """Every section as a message, first secrets beside it, and nothing of them printed."""
    broker.answer("Apply", config_pb2.ApplyResponse(version=9, created=["client/desk"], warnings=["look"]))

    outcome = command("apply", "-f", file)

    expected = config_pb2.ApplyRequest(
        config=config_pb2.Config(
            revision=4,
            providers=[
                config_pb2.Provider(name="aries", preset="aries", scopes=[config_pb2.ScopeMapping(scope="withdraw")])
            ],
            clients=[
                config_pb2.Client(name="desk", provider="aries", client_id="desk-app"),
                config_pb2.Client(name="other", provider="aries", client_id="other-app"),
            ],
            roles=[config_pb2.RoleBinding(role="auditor", callers=["key:eve"], name="eve")],
        ),
        first_secrets=[
            config_pb2.ClientSecret(client="desk", secret="canary-one"),
            config_pb2.ClientSecret(client="other", secret="canary-two"),
        ],
    )
    assert [("Apply", expected)] == broker.calls
    assert (0, "+ client/desk\n1 changed; version 9\n", "warning: look\n") == (outcome.code, outcome.out, outcome.err)


def test_a_dry_run_says_what_would_change(broker: ScriptedBroker, command: Command, file: Path) -> None:
    """The request says so, and so does the answer; --json has it for programs."""
    broker.answer("Apply", config_pb2.ApplyResponse(updated=["limit/a"], removed=["policy/b"]))

    outcome = command("apply", "-f", file, "--dry-run")
    as_json = json.loads(command("apply", "-f", file, "--dry-run", "--json").out)

    assert "~ limit/a\n- policy/b\n2 would change; version 0\n" == outcome.out
    assert (["limit/a"], ["policy/b"]) == (as_json["updated"], as_json["removed"])
    assert [True, True] == [request.dry_run for _, request in broker.calls]  # type: ignore[attr-defined]


def test_what_the_broker_refuses_is_told_with_its_line(broker: ScriptedBroker, command: Command, file: Path) -> None:
    """Fields the broker names are found again in the file, in order of lines."""
    wrong = [
        BadRequest.FieldViolation(field="clients[1].provider", description="there is none"),
        BadRequest.FieldViolation(field="revision", description="too small"),
    ]
    info = ErrorInfo(domain="broker.aries", reason="INVALID_REQUEST")
    broker.refuse(grpc.StatusCode.INVALID_ARGUMENT, "wrong", info, BadRequest(field_violations=wrong))

    outcome = command("apply", "-f", file)

    assert 1 == outcome.code
    assert [
        f"error: {file}: line 1: revision: too small",
        f"{file}: line 6: clients[1].provider: there is none",
        "nothing was applied [INVALID_REQUEST]",
    ] == outcome.err.splitlines()


def test_a_file_that_is_none_is_told_with_all_its_lines(
    broker: ScriptedBroker, command: Command, tmp_path: Path
) -> None:
    """Everything wrong at once, each with file and line; nothing is sent."""
    file = tmp_path / "broker.yaml"
    file.write_text("revision: one\nclients:\n  - {name: a, provider: b, client_id: c, secret: canary}\n")

    outcome = command("apply", "-f", file)

    assert (1, []) == (outcome.code, broker.calls)
    assert f"{file}: line 1: revision: must be a whole number" in outcome.err
    assert f"{file}: line 3: clients[0].secret: secrets are not written here" in outcome.err
    assert "canary" not in outcome.err


def test_a_secret_that_cannot_be_read_is_named(
    broker: ScriptedBroker, command: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is not set: nothing is sent."""
    monkeypatch.delenv("THE_SECRET")

    outcome = command("apply", "-f", file)

    assert (1, []) == (outcome.code, broker.calls)
    assert "clients[0].secret_env" in outcome.err


@pytest.mark.parametrize(("excess", "code"), [(0, 0), (1, 1)])
def test_a_configuration_too_long_for_a_request_is_told_what_to_do(
    broker: ScriptedBroker, command: Command, tmp_path: Path, excess: int, code: int
) -> None:
    """One byte more than a broker takes is not sent, and the ways that work are named."""
    file = tmp_path / "broker.yaml"
    text = "revision: 1\nroles:\n  - {role: auditor, callers: [CALLER]}\n"
    file.write_text(text.replace("CALLER", "a" * 60_000))
    length = config_pb2.ApplyRequest(config=build_config(read_config(file).config)).ByteSize()
    file.write_text(text.replace("CALLER", "a" * (60_000 + MAX_MESSAGE - length + excess)))

    outcome = command("apply", "-f", file)

    assert (code, 1 - code) == (outcome.code, len(broker.calls))
    assert (excess == 1) == ("aries-broker serve --config" in outcome.err)
    assert (excess == 1) == (f"{MAX_MESSAGE + 1} bytes" in outcome.err)
