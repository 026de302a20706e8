"""The audit table in PostgreSQL: a block of events is one statement, in one round trip, on one reserved connection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from broker.adapters.audit.connection import HeldConnection
from broker.adapters.audit.table import AuditRow, AuditTableError

CONNECT_SECONDS: Final = 2
UNACKNOWLEDGED_MS: Final = 5000
"""After this long without an answer from the network the kernel gives the connection up."""

# In autocommit the statement is the transaction, so `set_config(…, true)` holds for its commit. The insert reads
# `durable`, and therefore it is evaluated. `version` is read in the statement's own snapshot.
_WRITE: Final = text("""
    WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true)),
    added AS (
        INSERT INTO audit_events (chain, seq, time, outbox_id, event)
        SELECT q.* FROM durable, unnest(
            CAST(:chain AS text[]), CAST(:seq AS bigint[]), CAST(:time AS bigint[]),
            CAST(:outbox_id AS text[]), CAST(:event AS text[])
        ) AS q
        ON CONFLICT (chain, seq) DO NOTHING
    )
    SELECT version FROM control
""")

_CAUSES: Final = {
    "53100": "disk_full",
    "57014": "timeout",  # statement_timeout of the role
    "55P03": "timeout",  # lock_timeout
}


def postgres_audit_engine(url: str | URL) -> Engine:
    """Return an engine that opens a connection per use; no server-side statements, so that PgBouncer may pool."""
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        connect_args={
            "prepare_threshold": None,
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": UNACKNOWLEDGED_MS,
            "application_name": "aries-broker audit",
        },
    )


class PostgresAuditTable:
    """Port of the sink over PostgreSQL; the migrations made its table. Used by the writer thread alone."""

    def __init__(self, engine: Engine) -> None:
        """Connect later, with an engine of `postgres_audit_engine`."""
        self._connection = HeldConnection(engine, cause_of)

    def write(self, rows: Sequence[AuditRow]) -> int:
        """Insert the rows that are not there yet and read the version, in one durable statement."""
        columns = {
            "chain": [row.chain for row in rows],
            "seq": [row.seq for row in rows],
            "time": [row.time for row in rows],
            "outbox_id": [row.outbox_id for row in rows],
            "event": [row.event for row in rows],
        }
        with self._connection.transaction() as connection:
            version = connection.execute(_WRITE, columns).scalar()
        if version is None:  # a database restored without its control row has no version to go by
            raise AuditTableError("gone")
        return int(version)

    def known_outbox_ids(self, ids: Collection[str]) -> frozenset[str]:
        """Return those outbox ids whose events are in the table."""
        return self._connection.known_outbox_ids(ids)

    def close(self) -> None:
        """Close the connection."""
        self._connection.drop()


def cause_of(error: SQLAlchemyError) -> str:
    """Name a failure by its SQLSTATE: disk_full, timeout, else gone."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return _CAUSES.get(getattr(original, "sqlstate", None) or "", "gone")
