"""Secrets of a recognisable form are in nothing a broker says, shows or stores; and the search would find them.

The shared brokers are searched once more when all tests are done, over everything those tests saw.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from broker.adapters.sql.tables import metadata
from broker.cli.app import run
from tests.support.canary import (
    ACCESS_TOKEN_MARK,
    API_KEY,
    MARK,
    MFA_CODE,
    REFRESH_TOKEN_PREFIX,
    Seen,
    new_secret,
    search_files,
)
from tests.support.postgres import PostgresServer
from tests.support.world import CLIENT_ID, World, wire

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEALED = [name for name, table in metadata.tables.items() if "ciphertext" in table.columns]


async def _command(world: World, *arguments: object) -> tuple[int, str]:
    """Run a command line as it is, its output caught; return its exit code and what it printed."""
    out = io.StringIO()

    def call() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            return run([str(argument) for argument in arguments])

    code = await asyncio.to_thread(call)
    world.seen.add(f"command {arguments[:3]}", out.getvalue())
    return code, out.getvalue()


@pytest.fixture
def operator(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The environment of an operator of this broker."""
    monkeypatch.setenv("BROKER_ADDRESS", world.process.address)
    monkeypatch.setenv("BROKER_API_KEY", world.admin_key)
    return world


def _private(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    return file


async def test_no_command_shows_one(operator: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that take secrets in, and those that list and show; good or failing, in words and in JSON."""
    world = operator
    desk = await world.desk("refresh_token", imported=False)
    monkeypatch.setenv("BROKER_SECRET_ARIES", new_secret("environment"))
    names = ["aries", "unproved", "exacting", "closed", "not-tls"]
    fields = f"preset: aries, base_url: '{world.sandbox.url}', insecure_loopback: true"
    lines = [f"revision: {world.revision + 1}", "providers:", *(f"  - {{name: {name}, {fields}}}" for name in names)]
    fields = f"client_id: {CLIENT_ID}, secret_env: BROKER_SECRET_ARIES"
    lines += ["clients:", *(f"  - {{name: {name}, provider: {name}, {fields}}}" for name in names)]
    config = tmp_path / "broker.yaml"
    config.write_text("\n".join(lines))
    first = await world.sandbox.refresh_token(scopes=wire(["read", "trade"]))
    token = _private(tmp_path / "token", first)
    secret = _private(tmp_path / "secret", new_secret("late"))
    commands: list[tuple[int, list[object]]] = [
        (0, ["apply", "-f", config, "--dry-run"]),
        (0, ["admin", "grants", "import", desk.grant, "--secret-file", token]),
        (1, ["admin", "grants", "import", desk.grant, "--secret-file", token, "--json"]),
        (1, ["admin", "clients", "add-secret", "aries", "--secret-file", secret]),
        (0, ["admin", "clients", "list", "--json"]),
        (0, ["admin", "providers", "list"]),
        (0, ["admin", "policies", "list", "--json"]),
        (0, ["admin", "grants", "list", "--json"]),
        (0, ["admin", "grants", "show", desk.grant]),
        (0, ["admin", "api-keys", "list"]),
        (0, ["admin", "audit", "tail", "-n", "200", "--json"]),
        (0, ["admin", "audit", "tail"]),
        (1, ["token", "get", "--scope", "read", "--grant", desk.grant]),
    ]
    for code, command in commands:
        ended, said = await _command(world, *command)
        assert code == ended, (command, said)
        assert "Traceback" not in said
    await world.sandbox.fail(status=500, body="echo")
    monkeypatch.setenv("BROKER_API_KEY", desk.key)
    ended, said = await _command(world, "token", "get", "--scope", "read", "--grant", desk.grant)
    assert (1, True) == (ended, "GRANT_UNCERTAIN" in said)
    assert [] == world.seen.leaks()


async def test_a_narrowing_is_proved_by_command(operator: World) -> None:
    """The operator reads the profile and what was seen, and no token."""
    desk = await operator.desk("refresh_token", provider="unproved")
    await operator.sandbox.behave(narrowing="sticky")
    code, said = await _command(operator, "admin", "providers", "prove-narrowing", desk.grant)
    assert (0, "narrowing: sticky") == (code, said.splitlines()[-1])
    assert [] == operator.seen.leaks()


async def test_nothing_stored_shows_one(world: World, postgres: PostgresServer) -> None:
    """Not the raw bytes of any file, not a row as text, not the log; nor does any of them show a caller's API key."""
    desk = await world.desk("refresh_token")
    token = (await desk.get("read")).access_token
    assert token.startswith(ACCESS_TOKEN_MARK)
    assert any(kept.startswith(REFRESH_TOKEN_PREFIX) for kept in world.sandbox.running.state.refresh_tokens)
    url = world.process.environment.get("BROKER_DATABASE_URL")
    rows = "" if url is None else postgres.dump(url.split("/")[3].split("?")[0])
    if url is not None:
        postgres.execute("CHECKPOINT")
        assert desk.grant in rows
    found = search_files(world.process.data_dir if url is None else postgres.folder / "data", desk.grant)
    assert found.expected
    assert [] == found.leaks
    assert {"admin.key"} >= set(found.keys)
    seen = Seen([("rows", rows.encode()), ("log", bytes(world.process.output))])
    assert [] == seen.leaks()
    assert None is API_KEY.search(rows.encode() + bytes(world.process.output))


async def test_at_debug_no_library_tells_what_it_handles(on_sqlite: World) -> None:
    """Below WARNING only the broker speaks; what it stores sealed shows in no line, as no refresh token does."""
    desk = await on_sqlite.desk("refresh_token")
    await desk.get("read")
    file = on_sqlite.process.data_dir / "broker.db"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        queries = [f"SELECT ciphertext FROM {table} WHERE ciphertext IS NOT NULL" for table in SEALED]  # noqa: S608
        sealed = [row[0][8:24] for query in queries for row in database.execute(query)]  # behind the data key's id
    events = on_sqlite.process.events()
    said = "\n".join(str(value) for event in events for value in event.values())
    assert "debug" == on_sqlite.process.environment["BROKER_LOG_LEVEL"]
    assert {"broker"} == {event["logger"].partition(".")[0] for event in events if event["level"] in {"debug", "info"}}
    assert len(sealed) > len(SEALED)
    shown = {text for part in sealed for text in (repr(part)[2:-1], part.hex(), base64.b64encode(part[1:]).decode())}
    assert set() == {text for text in shown if text in said}


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": json.dumps,
    "in a URL": lambda text: quote(text, safe=""),
    "in hex": lambda text: text.encode().hex(),
    "in capital hex": lambda text: text.encode().hex().upper(),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in base64 after one byte": lambda text: base64.b64encode(b":" + text.encode()).decode(),
    "in base64 after a client id": lambda text: base64.b64encode(f"{CLIENT_ID}:{text}".encode()).decode(),
    "in base64 of URLs": lambda text: base64.urlsafe_b64encode(b"??" + text.encode()).decode(),
    "cut short": lambda text: text[: len(MARK) + 3],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "secret",
    [f'{MARK}-planted+/%"0123', REFRESH_TOKEN_PREFIX + "abc", ACCESS_TOKEN_MARK + ".e30.sig", MFA_CODE],
    ids=["client secret", "refresh token", "access token", "code of a phone"],
)
async def test_the_search_finds_what_is_there(form: str, secret: str, tmp_path: Path) -> None:
    """A canary planted anywhere, in any form, is found in what was seen and in the bytes of a file."""
    if form == "cut short" and secret.startswith(ACCESS_TOKEN_MARK):
        secret = ACCESS_TOKEN_MARK
    shown = secret if secret == ACCESS_TOKEN_MARK else FORMS[form](secret)
    seen = Seen([("here", f"before {shown} after".encode()), ("there", b"nothing")])
    assert ["here"] == seen.leaks()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"\0\1" + shown.encode() + b"\0")
    (tmp_path / "other").write_bytes(b"may be there")
    found = search_files(tmp_path, "may be there")
    assert (["deep/file"], ["other"]) == (found.leaks, found.expected)


@pytest.mark.parametrize("around", ["0{}", "{}0", "{}f", "a{}", "7{}e9"])
async def test_a_code_among_digits_is_none(around: str, tmp_path: Path) -> None:
    """Where six digits stand by chance; beside a letter that is no digit they do not."""
    (tmp_path / "file").write_text(around.format(MFA_CODE))
    assert [] == [
        *search_files(tmp_path, "may be there").leaks,
        *Seen([("here", around.format(MFA_CODE).encode())]).leaks(),
    ]
    (tmp_path / "file").write_text(f"g{MFA_CODE}z")
    assert ["file", "here"] == [
        *search_files(tmp_path, "may be there").leaks,
        *Seen([("here", f"g{MFA_CODE}z".encode())]).leaks(),
    ]


async def test_a_database_with_a_secret_in_it_is_noticed(tmp_path: Path) -> None:
    """A row of SQLite shows in the raw bytes of its write-ahead log, and of the database once that is copied there."""
    with contextlib.closing(sqlite3.connect(tmp_path / "kept.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE kept (body TEXT)")
        database.execute("INSERT INTO kept VALUES (?)", [json.dumps({"secret": new_secret("stored")})])
        assert ["kept.db-wal"] == search_files(tmp_path, "CREATE TABLE").leaks
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert ["kept.db"] == search_files(tmp_path, "CREATE TABLE").leaks
