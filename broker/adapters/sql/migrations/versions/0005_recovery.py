"""What recovery, renewal and revocation have to know of a redeem, and of the processes that redeem."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ZERO = sa.text("0")


def upgrade() -> None:
    """Add the facts; cached access tokens, whose key has a new form, are got anew."""
    op.add_column("control", sa.Column("rotations", sa.BigInteger(), server_default=ZERO, nullable=False))
    _grants()
    _refresh_tokens()
    _attempts()
    _replicas()
    _access_tokens()


def _grants() -> None:
    for name in ("last_sent_at", "settled_at"):
        op.add_column("grants", sa.Column(name, sa.BigInteger(), nullable=True))
    for name in ("failures", "landed"):
        op.add_column("grants", sa.Column(name, sa.BigInteger(), server_default=ZERO, nullable=False))
    op.add_column("grants", sa.Column("doubted", sa.Text(), nullable=True))
    op.drop_index("ix_grants_busy", table_name="grants")
    _partial_index("ix_grants_busy", "grants", "id", "phase <> 'idle'")
    _partial_index("ix_grants_quarantined", "grants", "id", "health <> 'ok'")
    _partial_index("ix_grants_revoking", "grants", "id", "hold = 'revoking'")
    op.execute("UPDATE grants SET last_sent_at = first_sent_at")


def _refresh_tokens() -> None:
    with op.batch_alter_table("refresh_tokens") as table:
        table.alter_column("key_id", existing_type=sa.Text(), nullable=True)
        table.alter_column("ciphertext", existing_type=sa.LargeBinary(), nullable=True)
        table.add_column(sa.Column("generation", sa.BigInteger(), server_default=ZERO, nullable=False))
        table.add_column(sa.Column("revoked_at", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("late", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    unused = "first_sent_at IS NULL AND refused_at IS NULL"
    _partial_index("ix_refresh_tokens_unused", "refresh_tokens", "grant_id", unused)
    late = "late AND revoked_at IS NULL AND refused_at IS NULL"
    _partial_index("ix_refresh_tokens_late", "refresh_tokens", "grant_id", late)


def _attempts() -> None:
    op.add_column("attempts", sa.Column("consent", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("sent_at", sa.BigInteger(), nullable=True))
    _partial_index("ix_attempts_open", "attempts", "grant_id", "outcome = ''")
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DELETE FROM attempts")  # their times were of a clock that says nothing to a reader


def _replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("volume", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("drained_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("owner", name="pk_replicas"),
    )
    op.create_index("ix_replicas_beat_at", "replicas", ["beat_at"])


def _access_tokens() -> None:
    op.drop_table("access_tokens")
    op.create_table(
        "access_tokens",
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.Column("token_attempt", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("granted", sa.Text(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("life_ms", sa.BigInteger(), nullable=False),
        sa.Column("lifetime_assumed", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("renew_at", sa.BigInteger(), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["data_keys.id"], name="fk_access_tokens_key_id"),
        sa.PrimaryKeyConstraint("grant_id", "digest", name="pk_access_tokens"),
    )
    op.create_index("ix_access_tokens_renew_at", "access_tokens", ["renew_at"])
    _partial_index("ix_access_tokens_leased", "access_tokens", "owner", "owner IS NOT NULL")
    op.create_table(
        "ended_tokens",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("grant_name", sa.Text(), nullable=False),
        sa.Column("granted", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", "fingerprint", name="pk_ended_tokens"),
    )


def _partial_index(name: str, table: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)
