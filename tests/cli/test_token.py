"""`token get`: the token alone on stdout, a warning where somebody looks."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import token_pb2
from tests.cli.conftest import Command, ScriptedBroker

RESPONSE = token_pb2.GetTokenResponse(
    access_token="at-canary", scopes=["read"], lifetime=Duration(seconds=60), narrowing=token_pb2.NARROWING_EXACT
)


def test_the_token_stands_alone_on_stdout(broker: ScriptedBroker, command: Command) -> None:
    """A script takes it from stdout; the request is what the options say."""
    broker.answer("GetToken", RESPONSE)

    outcome = command("token", "get", "--scope", "read", "--scope", "trade", "--grant", "g", "--min-lifetime", "5")

    assert (0, "at-canary\n", "") == (outcome.code, outcome.out, outcome.err)
    expected = token_pb2.GetTokenRequest(grant="g", scopes=["read", "trade"], min_lifetime=Duration(seconds=5))
    assert [("GetToken", expected)] == broker.calls
    assert ["Bearer abk_operator"] == broker.bearers


def test_json_has_what_is_known_of_the_token(broker: ScriptedBroker, command: Command) -> None:
    """All fields, for programs."""
    broker.answer("GetToken", RESPONSE)

    printed = json.loads(command("token", "get", "--scope", "read", "--json").out)

    assert ("at-canary", 60.0, ["read"], "EXACT") == (
        printed["access_token"],
        printed["lifetime"],
        printed["scopes"],
        printed["narrowing"],
    )


def test_a_terminal_is_warned(broker: ScriptedBroker, tmp_path: Path) -> None:
    """A token printed to a terminal stays in its scrollback."""
    broker.answer("GetToken", RESPONSE)
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", "import broker.cli; broker.cli.main()", "token", "get", "--scope", "read"]
    ended = subprocess.run(  # noqa: S603 - our own program
        command, stdout=follower, stderr=subprocess.PIPE, text=True, check=True, cwd=tmp_path
    )
    os.close(follower)
    os.close(leader)

    assert "scrollback" in ended.stderr
    assert "at-canary" not in ended.stderr


def test_a_service_does_not_borrow_the_admin_key(
    broker: ScriptedBroker, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only admin commands look into the data folder for a credential."""
    monkeypatch.delenv("BROKER_API_KEY")
    (tmp_path / "broker-data").mkdir()
    (tmp_path / "broker-data" / "admin.key").write_text("abk_admin\n")

    command("token", "get", "--scope", "read")
    command("admin", "clients", "list")

    assert ["", "Bearer abk_admin"] == broker.bearers


@pytest.mark.parametrize("address", ["broker.example:443", "192.0.2.1:443"])
def test_the_admin_key_stays_on_this_machine(
    broker: ScriptedBroker, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """The key of the broker here is not shown to a broker elsewhere."""
    monkeypatch.delenv("BROKER_API_KEY")
    (tmp_path / "broker-data").mkdir()
    (tmp_path / "broker-data" / "admin.key").write_text("abk_admin\n")

    outcome = command("admin", "--address", address, "clients", "list")

    assert 2 == outcome.code
    assert f"no credential for {address}" in outcome.err


def test_an_admin_without_a_credential_is_told_where_to_put_one(
    broker: ScriptedBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key anywhere: exit 2 before anything is sent."""
    monkeypatch.delenv("BROKER_API_KEY")

    outcome = command("admin", "clients", "list")

    assert (2, []) == (outcome.code, broker.calls)
    assert "admin.key is not there" in outcome.err


def test_a_key_file_comes_before_the_environment(broker: ScriptedBroker, command: Command, tmp_path: Path) -> None:
    """--api-key-file wins over BROKER_API_KEY."""
    file = tmp_path / "key"
    file.write_text("abk_file\n")

    command("admin", "--api-key-file", file, "clients", "list")

    assert ["Bearer abk_file"] == broker.bearers


def test_a_program_is_told_what_was_made(broker: ScriptedBroker, command: Command, tmp_path: Path) -> None:
    """With --json the keys' commands print one object: what was made, and where."""
    made = {"new-kek": "key-encryption key", "new-bootstrap": "bootstrap admin key"}
    for name, what in made.items():
        printed = command("keys", name, tmp_path / name, "--json").out

        assert {"made": what, "file": str(tmp_path / name)} == json.loads(printed)


def test_keys_are_made_once_and_private(broker: ScriptedBroker, command: Command, tmp_path: Path) -> None:
    """New files, 0600, never overwritten, never printed."""
    for name in ("new-kek", "new-bootstrap"):
        file = tmp_path / name
        made = command("keys", name, file)
        again = command("keys", name, file)

        assert (0, 1) == (made.code, again.code)
        assert 0o600 == file.stat().st_mode & 0o777
        assert "exists already" in again.err
        assert file.read_text().strip() not in made.out
