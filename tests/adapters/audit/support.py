"""Databases with an audit table, tables that misbehave, and events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import psycopg
from sqlalchemy import Engine, text

from broker.adapters.audit.postgres import PostgresAuditTable, postgres_audit_engine
from broker.adapters.audit.sqlite import SqliteAuditTable, sqlite_audit_engine
from broker.adapters.audit.table import AuditRow, AuditTable, AuditTableError
from broker.core.audit import Action, AuditEvent

TIME = datetime(2026, 1, 2, tzinfo=UTC)


def event(number: int = 0, action: Action = Action.TOKEN_ISSUE) -> AuditEvent:
    """Return an event told apart by its number."""
    return AuditEvent(TIME, action, actor="key:reports", request_id=f"r{number}")


class Database(Protocol):
    """What a test does with a real database."""

    engine: Engine
    where: str
    version: int

    def table(self) -> AuditTable:
        """Return a table as one process has it."""

    def rows(self) -> list[tuple[str, int, str | None, str]]:
        """Return (chain, seq, outbox_id, event) of all rows."""

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Let no write end meanwhile."""


class SqliteDatabase:
    """audit.db in a folder."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self.engine = sqlite_audit_engine(path)
        self.version = 1

    def table(self) -> AuditTable:
        return SqliteAuditTable(self.engine, lambda: self.version)

    def rows(self) -> list[tuple[str, int, str | None, str]]:
        return _rows(self.engine)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        script = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-c", script, self.where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert "locked\n" == holder.stdout.readline()
            yield
            holder.communicate()


class PostgresDatabase:
    """A migrated database."""

    def __init__(self, url: str, name: str) -> None:
        self.where = url
        self.name = name
        self.engine = postgres_audit_engine(url)

    @property
    def version(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text("SELECT version FROM control")).scalar_one())

    @version.setter
    def version(self, version: int) -> None:
        with self.engine.connect() as connection:
            connection.execute(text("UPDATE control SET version = :version"), {"version": version})

    def table(self) -> AuditTable:
        return PostgresAuditTable(self.engine)

    def rows(self) -> list[tuple[str, int, str | None, str]]:
        return _rows(self.engine)

    def writer_pids(self) -> list[int]:
        """Return the server processes that serve audit connections of this database, but the one that asks."""
        with psycopg.connect(self.where) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'aries-broker audit'"
            ).fetchall()
        return [pid for (pid,) in found]

    @contextmanager
    def blocked(self) -> Iterator[None]:
        pids = self.writer_pids()
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def _rows(engine: Engine) -> list[tuple[str, int, str | None, str]]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT chain, seq, outbox_id, event FROM audit_events ORDER BY chain, seq"))
        return [(row.chain, row.seq, row.outbox_id, row.event) for row in found]


class Wrapped:
    """A real table, its blocks counted; `after_write` may spoil the answer of a write that happened."""

    def __init__(self, table: AuditTable, after_write: Callable[[int], None] = lambda _count: None) -> None:
        self._table = table
        self._after_write = after_write
        self.blocks: list[Sequence[AuditRow]] = []

    def write(self, rows: Sequence[AuditRow]) -> int:
        self.blocks.append(rows)
        version = self._table.write(rows)
        self._after_write(len(self.blocks))
        return version

    def known_outbox_ids(self, ids: Collection[str]) -> frozenset[str]:
        return self._table.known_outbox_ids(ids)

    def close(self) -> None:
        self._table.close()


class Gated:
    """A table in memory whose writes wait for a gate; then they fail with `cause`, if there is one."""

    def __init__(self, cause: str = "") -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.cause = cause
        self.rows: list[AuditRow] = []

    def write(self, rows: Sequence[AuditRow]) -> int:
        self.entered.set()
        self.gate.wait(10)
        if self.cause:
            raise AuditTableError(self.cause)
        self.rows += rows
        return 1

    def known_outbox_ids(self, ids: Collection[str]) -> frozenset[str]:
        return frozenset()

    def close(self) -> None:
        self.gate.set()
