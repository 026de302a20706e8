"""When an event of the outbox was delivered, so that it need not be kept for ever."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time; events delivered before it was noted are in the audit log and go."""
    op.execute("DELETE FROM outbox WHERE delivered")
    op.add_column("outbox", sa.Column("delivered_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_outbox_delivered_at", "outbox", ["delivered_at"])
