"""A real PgBouncer in transaction mode before a PostgreSQL of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.support.postgres import START_SECONDS, USER, PostgresServer, private_folder, spawn, stop

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


@dataclass
class PgBouncer:
    """A running PgBouncer; `folder` holds its socket."""

    folder: Path
    port: int

    def url(self, database: str) -> str:
        """Return the URL of a database behind it."""
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"


@contextmanager
def running_pgbouncer(server: PostgresServer) -> Iterator[PgBouncer]:
    """Run PgBouncer before `server` until the block ends; the test is skipped where there is none."""
    program = shutil.which("pgbouncer", path=_PATH)
    if program is None:
        pytest.skip("pgbouncer is not installed (tests/support/install_programs)")
    with private_folder("pgb-") as folder:
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            f"""[databases]
* = host={server.folder} port={server.port} user={USER}
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = 12
max_client_conn = 200
server_idle_timeout = 5
"""
        )
        log = folder / "log"
        process = spawn([program, configuration], log)
        try:
            bouncer = PgBouncer(folder, 6432)
            _wait_until_ready(bouncer, process, log)
            yield bouncer
        finally:
            stop(process, signal.SIGTERM)


def _wait_until_ready(bouncer: PgBouncer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(bouncer.url("postgres"), autocommit=True).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail(f"PgBouncer did not start: {log.read_text(errors='replace')}")
            time.sleep(0.02)
        else:
            return
