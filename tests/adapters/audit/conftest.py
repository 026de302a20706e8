from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.adapters.audit.support import Database, PostgresDatabase, SqliteDatabase


def _run(*command: str | Path) -> None:
    """Run a program of PostgreSQL, which refuses to be root."""
    user = "postgres" if os.geteuid() == 0 else None
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")  # noqa: S603 - our own words


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Run a PostgreSQL of this session's own, on a Unix socket; give the URL of its first database."""
    folder = Path(tempfile.mkdtemp(prefix="pg-audit-"))  # a short path, for the socket
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    bindir = Path(subprocess.check_output(["pg_config", "--bindir"], text=True).strip())  # noqa: S607 - found by PATH
    _run(bindir / "initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres", "--no-sync")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c shared_buffers=16MB"
    control = (bindir / "pg_ctl", "-D", folder / "data", "-w")
    _run(*control, "-l", folder / "log", "-o", options, "start")
    yield f"postgresql://postgres@/postgres?host={folder}"
    _run(*control, "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Give an empty audit table in either database, its `control.version` at 1."""
    if request.param == "sqlite":
        yield SqliteDatabase(tmp_path / "audit.db")
    else:
        yield request.getfixturevalue("postgres_database")


@pytest.fixture
def postgres_database(postgres_server: str) -> Iterator[PostgresDatabase]:
    """Make an empty database with the audit table, and drop it."""
    name = f"audit_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield PostgresDatabase(postgres_server.replace("/postgres?", f"/{name}?"))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
