"""Who signed in before they logged in at the provider: of a login, and of the grant it connected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the persons; nobody had to sign in so far."""
    op.add_column("grants", sa.Column("person", sa.Text(), nullable=True))
    op.add_column("authorizations", sa.Column("person", sa.Text(), nullable=True))
