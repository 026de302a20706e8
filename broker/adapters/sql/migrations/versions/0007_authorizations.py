"""Logins under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OPEN = "phase NOT IN ('connected', 'failed')"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "authorizations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("starter", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.Column("granted", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("verifier", sa.LargeBinary(), nullable=False),
        sa.Column("received_key_id", sa.Text(), nullable=True),
        sa.Column("received", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["data_keys.id"], name="fk_authorizations_key_id"),
        sa.ForeignKeyConstraint(["received_key_id"], ["data_keys.id"], name="fk_authorizations_received_key_id"),
        sa.PrimaryKeyConstraint("id", name="pk_authorizations"),
    )
    for name, column, condition in (
        ("ix_authorizations_open", "starter", OPEN),
        ("ix_authorizations_state", "state", "state <> ''"),
        ("ix_authorizations_code", "code", "code <> ''"),
    ):
        where = sa.text(condition)
        op.create_index(name, "authorizations", [column], sqlite_where=where, postgresql_where=where)
