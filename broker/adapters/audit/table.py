"""The table of audit events, and what the sink needs of a database that holds it.

An event is one line of JSON under (chain, seq): a chain is one process's life, its sequence has no holes. `time` is for
reading in order, never a cursor. `outbox_id` names the outbox row an event came from, so that it is copied once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from sqlalchemy import BigInteger, Column, Index, MetaData, Table, Text, text

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False, index=True),
    Column("outbox_id", Text),
    Column("event", Text, nullable=False),
)

_FROM_OUTBOX: Final = text("outbox_id IS NOT NULL")
Index(
    "uq_audit_events_outbox_id",
    audit_events.c.outbox_id,
    unique=True,
    sqlite_where=_FROM_OUTBOX,
    postgresql_where=_FROM_OUTBOX,
)
"""Partial: few events come from the outbox, and the others need not pay for it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AuditRow(NamedTuple):
    """One row, its values in the order of the table's columns; `time` in microseconds since the epoch, UTC."""

    chain: str
    seq: int
    time: int
    outbox_id: str | None
    event: str


class AuditTableError(Exception):
    """A block was not written, or nobody knows; `cause` is one of: timeout, disk_full, gone."""

    def __init__(self, cause: str) -> None:
        """Name the cause."""
        super().__init__(f"the audit log cannot be used: {cause}")
        self.cause = cause


class DuplicateDeliveryError(Exception):
    """The block surely was not written: another process has copied one of its outbox rows meanwhile."""


class AuditTable(Protocol):
    """A database's audit table, as the one writer thread uses it; every method may block."""

    def write(self, rows: Sequence[AuditRow]) -> int:
        """Insert the rows that are not there yet, durably; return `control.version` as of that commit.

        Raises:
            AuditTableError: the outcome is a failure, or unknown: call again with the same rows.
            DuplicateDeliveryError: nothing was written.
        """

    def known_outbox_ids(self, ids: Collection[str]) -> frozenset[str]:
        """Return those outbox ids whose events are in the table.

        Raises:
            AuditTableError: they cannot be read.
        """

    def close(self) -> None:
        """Let go of the database; a later call connects again."""


def microseconds(time: datetime) -> int:
    """Return microseconds since the epoch."""
    return (time - _EPOCH) // timedelta(microseconds=1)
