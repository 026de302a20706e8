"""`migrate`: a database gets this version's tables, and the command says which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.adapters.sql.migrate import TABLES_VERSION
from tests.support.postgres import PostgresServer


def migrate(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, which sets up logs for itself alone."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "broker.cli", "migrate", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **env},
    )


@pytest.mark.timeout(60)
def test_the_tables_are_made_and_named(postgres: PostgresServer, tmp_path: Path) -> None:
    """A line for people, one object for programs; a second time changes nothing. It needs no key."""
    env = {"BROKER_DATABASE_URL": postgres.url(postgres.create_database())}

    first = migrate(tmp_path, **env)
    again = migrate(tmp_path, "--json", **env)

    assert (0, f"the tables are at {TABLES_VERSION}\n") == (first.returncode, first.stdout), first.stderr
    assert (0, {"tables": TABLES_VERSION}) == (again.returncode, json.loads(again.stdout))


def test_without_postgresql_a_program_is_told_why(tmp_path: Path) -> None:
    """The refusal is one JSON object, and nothing else is on stderr."""
    ended = migrate(tmp_path, "--json")

    assert (1, "") == (ended.returncode, ended.stdout)
    assert "there is nothing to migrate" in json.loads(ended.stderr)["error"]["message"]
