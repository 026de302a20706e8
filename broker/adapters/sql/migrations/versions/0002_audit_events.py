"""The audit log, on PostgreSQL; beside SQLite it is a file of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of audit events."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "audit_events",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("outbox_id", sa.Text(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "seq", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_time", "audit_events", ["time"])
    op.create_index(
        "uq_audit_events_outbox_id",
        "audit_events",
        ["outbox_id"],
        unique=True,
        postgresql_where=sa.text("outbox_id IS NOT NULL"),
    )
