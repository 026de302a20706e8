"""The audit table in `audit.db`, a file of its own beside the store's: its commits wait for nobody else's."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from broker.adapters.audit.connection import HeldConnection
from broker.adapters.audit.table import AuditRow, AuditTableError, metadata

BUSY_SECONDS: Final = 0.5
"""How long a commit waits for another process's lock before it fails and is tried again."""
_SYNCHRONOUS_FULL: Final = 2
# The whole block in one statement: the driver gives the interpreter away at each one, and has to win it back from a
# busy event loop, which takes up to 5 ms.
_INSERT: Final = """
    INSERT INTO audit_events (chain, seq, time, outbox_id, event)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]')
    FROM json_each(?) WHERE true
    ON CONFLICT (chain, seq) DO NOTHING
"""


def sqlite_audit_engine(path: Path) -> Engine:
    """Return an engine on the file, made now, private, if missing; each connection asserts WAL and synchronous=FULL.

    Call it before any other connection to the file is open in this process: closing a descriptor drops SQLite's locks.
    """
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


class SqliteAuditTable:
    """Port of the sink over SQLite; used by the writer thread alone once made."""

    def __init__(self, engine: Engine, version: Callable[[], int]) -> None:
        """Make the table if it is missing.

        Args:
            engine: of `sqlite_audit_engine`.
            version: gives `control.version`, which this process owns; called from the writer thread.

        Raises:
            AuditTableError: the file cannot be used.
        """
        self._version = version
        self._connection = HeldConnection(engine, cause_of)
        with self._connection.transaction() as connection:
            metadata.create_all(connection)
        self._connection.drop()

    def write(self, rows: Sequence[AuditRow]) -> int:
        """Insert the rows that are not there yet, in one durable transaction."""
        if rows:
            with self._connection.transaction() as connection:
                connection.exec_driver_sql(_INSERT, (json.dumps(rows),))
        return self._version()

    def known_outbox_ids(self, ids: Collection[str]) -> frozenset[str]:
        """Return those outbox ids whose events are in the table."""
        return self._connection.known_outbox_ids(ids)

    def close(self) -> None:
        """Close the file."""
        self._connection.drop()


def cause_of(error: SQLAlchemyError) -> str:
    """Name a failure: disk_full, timeout (another process holds the file), else gone."""
    original = error.orig if isinstance(error, DBAPIError) else None
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF
    return {sqlite3.SQLITE_FULL: "disk_full", sqlite3.SQLITE_BUSY: "timeout", sqlite3.SQLITE_LOCKED: "timeout"}.get(
        code, "gone"
    )


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's own
    """Leave transactions to us and make every commit reach the disk."""
    connection.isolation_level = None
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if (journal, synchronous) != ("wal", _SYNCHRONOUS_FULL):
        raise AuditTableError("gone")
