"""Alembic's entry: runs migrations on the connection it is given, one transaction for all, on either database."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from broker.adapters.audit.table import metadata as audit_metadata
from broker.adapters.sql.tables import metadata

_MIGRATION_LOCK = 0x41524945
"""Number of the advisory lock; a second migration waits for the first one's transaction."""


def _run(connection: Connection) -> None:
    targets = [metadata]
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})
        targets.append(audit_metadata)
    context.configure(
        connection=connection,
        target_metadata=targets,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_run(context.config.attributes["connection"])
