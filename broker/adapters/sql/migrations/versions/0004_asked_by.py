"""Who first asked for a scope set, so that one caller cannot take all a grant may have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the caller; of the sets alive now nobody knows."""
    op.add_column("access_tokens", sa.Column("asked_by", sa.Text(), nullable=True))
