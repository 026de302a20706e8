"""`apply`: the file becomes the request, secrets are read here, and what is wrong is told with its line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from aries.broker.admin.v1 import config_pb2
from broker.adapters.config_file import read_config
from broker.cli.messages import build_config
from broker.core.config_rules import LOCAL_ONLY
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
    """Fields the broker names are found again in the file, in order of lines; its own words come last."""
    wrong = [
        BadRequest.FieldViolation(field="clients[1].provider", description="there is none"),
        BadRequest.FieldViolation(field="revision", description="too small"),
    ]
    info = ErrorInfo(domain="broker.aries", reason="INVALID_REQUEST")
    broker.refuse(
        grpc.StatusCode.INVALID_ARGUMENT, "2 problems, and there are 7 more", info, BadRequest(field_violations=wrong)
    )

    outcome = command("apply", "-f", file)

    assert 1 == outcome.code
    assert [
        f"error: {file}: line 1: revision: too small",
        f"{file}: line 6: clients[1].provider: there is none",
        "2 problems, and there are 7 more [INVALID_REQUEST]",
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


NEEDED = "it is needed if the client has no secret yet"
WRONG = """\
revision: 9999999999999999999
providers:
  - {name: aries, preset: aries, default_expires_in: 99999999999}
clients:
  - {name: desk, provider: aries, client_id: desk-app, secret_env: THE_SECRET}
  - {name: home, provider: arise, client_id: home-app, secret_file: "~nobody-by-this-name/x"}
limits:
  - {name: l, applies_to: admin, key: [caller], rate: 1/s, burst: 99999999999}
issuers:
  - {name: k8s, issuer: i, audience: a, jwks_file: /etc/jwks.json}
"""


def test_everything_that_can_be_known_here_is_told_at_once(
    broker: ScriptedBroker, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers no message holds, secrets that cannot be read, and what no broker takes: with lines, and nothing sent."""
    monkeypatch.setitem(os.environb, b"THE_SECRET", b"canary\xff")
    (tmp_path / "broker.yaml").write_text(WRONG)

    outcome = command("apply", "-f", "broker.yaml")
    as_json = json.loads(command("apply", "-f", "broker.yaml", "--json").err)["error"]

    expected = [
        ("line 1: revision", "must be a whole number from 1 to 9223372036854775807"),
        ("line 3: providers[0].default_expires_in", "must be 1 to 86400 seconds"),
        ("line 5: clients[0].secret_env", f"the secret is not text in UTF-8; {NEEDED}"),
        ("line 6: clients[1].provider", "there is no provider called 'arise' in this file"),
        ("line 6: clients[1].secret_file", f"the file's path cannot be followed; {NEEDED}"),
        ("line 8: limits[0].windows[0].burst", "must be 1 to 1000000"),
        ("line 10: issuers[0].jwks_file", LOCAL_ONLY),
    ]
    lines = [f"broker.yaml: {place}: {problem}" for place, problem in expected]
    assert (1, f"error: {lines[0]}", lines[1:]) == (outcome.code, *_first_and_rest(outcome.err))
    assert {place.partition(": ")[2]: problem for place, problem in expected} == as_json["fields"]
    assert ([], False) == (broker.calls, "canary" in outcome.err)


def test_a_file_that_is_none_tells_missing_secrets_too(
    broker: ScriptedBroker, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field nobody knows does not hide a variable that is not set, nor what was no text a place nobody looks at."""
    monkeypatch.delenv("NOT_THERE", raising=False)
    (tmp_path / "broker.yaml").write_text(
        "revision: 1\nnonsense: 1\nclients:\n"
        "  - {name: a, provider: p, client_id: x, secret_env: NOT_THERE}\n"
        "  - {name: b, provider: p, client_id: x, secret_env: 7}\n"
    )

    outcome = command("apply", "-f", "broker.yaml")

    assert (1, []) == (outcome.code, broker.calls)
    assert [
        "error: broker.yaml: line 2: nonsense: unknown field",
        f"broker.yaml: line 4: clients[0].secret_env: the variable NOT_THERE is not set; {NEEDED}",
        "broker.yaml: line 5: clients[1].secret_env: must be text: put it in quotes",
    ] == outcome.err.splitlines()


def test_a_secret_that_is_not_there_is_left_to_the_broker(
    broker: ScriptedBroker, command: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may have its secret already: the broker is told that none was read, and the file is applied."""
    monkeypatch.delenv("THE_SECRET")
    broker.answer("Apply", config_pb2.ApplyResponse(first_secrets=["client/other"]))

    outcome = command("apply", "-f", file)

    ((_, request),) = broker.calls
    assert [
        config_pb2.ClientSecret(client="desk", unread=True),
        config_pb2.ClientSecret(client="other", secret="canary-two"),
    ] == list(request.first_secrets)  # type: ignore[attr-defined]
    assert (0, "+ first secret of client/other\n0 changed; version 0\n") == (outcome.code, outcome.out)


def test_a_secret_that_is_needed_is_told_with_its_line(
    broker: ScriptedBroker, command: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the broker needs it, the line of its source and what is wrong there stand beside all else that is wrong."""
    monkeypatch.delenv("THE_SECRET")
    wrong = [
        BadRequest.FieldViolation(field="clients[1].provider", description="there is none"),
        BadRequest.FieldViolation(field="clients[0].secret", description="it could not be read"),
    ]
    info = ErrorInfo(domain="broker.aries", reason="INVALID_REQUEST")
    broker.refuse(grpc.StatusCode.INVALID_ARGUMENT, "2 problems", info, BadRequest(field_violations=wrong))

    told = command("apply", "-f", file).err.splitlines()
    as_json = json.loads(command("apply", "-f", file, "--json").err)["error"]

    why = "the client 'desk' has no secret yet, and the variable THE_SECRET is not set"
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if "THE_SECRET" in text)
    assert f"error: {file}: line {line}: clients[0].secret_env: {why}" == told[0]
    assert ("clients[1].provider: there is none", "2 problems [INVALID_REQUEST]") == (
        told[1].rpartition(f"{file}: ")[2].partition(": ")[2],
        told[2],
    )
    assert why == as_json["fields"]["clients[0].secret"]


def _first_and_rest(text: str) -> tuple[str, list[str]]:
    first, *rest = text.splitlines()
    return first, rest


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (r'roles: [{role: auditor, callers: ["key:\uD800"]}]', "roles[0].callers[0]: holds half a character"),
        (
            r'issuers: [{name: a, issuer: i, audience: a, require: {"\uDC00": x}}]',
            "field's name holds half a character",
        ),
        (r'roles: ["\UFFFFFFFF"]', "an escape or a version stands for nothing"),
    ],
)
def test_text_that_no_message_holds_is_told(
    broker: ScriptedBroker, command: Command, tmp_path: Path, entry: str, told: str
) -> None:
    """Escapes that stand for no character are wrong where they stand."""
    (tmp_path / "broker.yaml").write_text(f"revision: 1\n{entry}\n")

    outcome = command("apply", "-f", "broker.yaml")

    assert (1, []) == (outcome.code, broker.calls)
    assert outcome.err.startswith("error: broker.yaml: line ")
    assert told in outcome.err


def test_a_name_that_leads_nowhere_in_the_file_alone_is_sent(
    broker: ScriptedBroker, command: Command, tmp_path: Path
) -> None:
    """What it means may be stored: only the broker knows."""
    (tmp_path / "broker.yaml").write_text("revision: 1\nclients: [{name: a, provider: stored, client_id: c}]\n")

    assert 0 == command("apply", "-f", "broker.yaml").code
    assert ["Apply"] == [name for name, _ in broker.calls]


def test_a_file_in_another_encoding_is_told_with_its_line(
    broker: ScriptedBroker, command: Command, tmp_path: Path
) -> None:
    """The line of the first byte that is none of UTF-8."""
    (tmp_path / "broker.yaml").write_bytes(b"revision: 1\n# caf\xe9\n")

    outcome = command("apply", "-f", "broker.yaml")

    assert (1, "error: broker.yaml: line 2: is not text in UTF-8\n") == (outcome.code, outcome.err)


@pytest.mark.parametrize(("excess", "code"), [(0, 0), (1, 1)])
def test_a_configuration_too_long_for_a_request_is_told_what_to_do(
    broker: ScriptedBroker, command: Command, tmp_path: Path, excess: int, code: int
) -> None:
    """One byte more than a broker takes is not sent, and the ways that work are named."""
    file = tmp_path / "broker.yaml"
    callers = [f"key:{number:0500}" for number in range(129)]

    def write(last: int) -> None:
        file.write_text(f"revision: 1\nroles: [{{role: auditor, callers: {[*callers, 'key:' + 'a' * last]}}}]\n")

    write(50)
    length = config_pb2.ApplyRequest(config=build_config(read_config(file).config)).ByteSize()
    write(50 + MAX_MESSAGE - length + excess)

    outcome = command("apply", "-f", file)

    assert (code, 1 - code) == (outcome.code, len(broker.calls))
    assert (excess == 1) == ("aries-broker serve --config" in outcome.err)
    assert (excess == 1) == (f"{MAX_MESSAGE + 1} bytes" in outcome.err)
