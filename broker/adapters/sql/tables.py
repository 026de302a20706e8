"""The tables, for both databases. Times are BIGINT milliseconds of the store's clock; ids are random, never reused."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Sorted = Text().with_variant(Text(collation="C"), "postgresql")
"""Text ordered by its bytes on both databases, so that prefixes can be looked up and pages do not overlap."""

Serial = BigInteger().with_variant(Integer, "sqlite")
"""A number the database gives; only ever for display order, never a cursor: a later number can commit first."""

control = Table(
    "control",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("boot_id", Text, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("version", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("wraps", Text, nullable=False),
)


def _key_id(name: str, *, nullable: bool = False) -> Column[str]:
    """Return a column naming a data key: the database refuses to drop a key in use."""
    return Column(name, Text, ForeignKey("data_keys.id"), nullable=nullable)


objects = Table(
    "objects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Sorted, nullable=False),
    Column("origin", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    _key_id("mac_key_id"),
    Column("version", BigInteger, nullable=False),
    UniqueConstraint("kind", "name"),
)

grants = Table(
    "grants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Sorted, nullable=False, unique=True),
    Column("origin", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("subject", Text),
    Column("mac", LargeBinary, nullable=False),
    _key_id("mac_key_id"),
    Column("consent", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("current", Text),
    Column("phase", Text, nullable=False),
    Column("health", Text, nullable=False),
    Column("hold", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("owner", Text),
    Column("lease_until", BigInteger, nullable=False),
    Column("first_sent_at", BigInteger),
    Column("replay_until", BigInteger),
    Column("sends", BigInteger, nullable=False),
    Column("probes", BigInteger, nullable=False),
    Column("not_before", BigInteger, nullable=False),
)
BUSY = text("phase <> 'idle'")
"""Few grants are being redeemed at a time: a start on SQLite looks only at these."""
Index("ix_grants_busy", grants.c.phase, sqlite_where=BUSY, postgresql_where=BUSY)

# No foreign key to grants: a token received for a grant removed meanwhile is kept all the same.
refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("grant_id", Text, primary_key=True),
    Column("fingerprint", Sorted, primary_key=True),
    Column("consent", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    _key_id("key_id"),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("first_sent_at", BigInteger),
    Column("refused_at", BigInteger),
)

attempts = Table(
    "attempts",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("grant_id", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("secret_version", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Index("ix_attempts_grant_id_number", "grant_id", "number"),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("grant_id", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("client_id", Text, primary_key=True),
    Column("scopes", Text, primary_key=True),
    Column("resource", Text, primary_key=True),
    Column("attempt", BigInteger, nullable=False),
    _key_id("key_id", nullable=True),
    Column("ciphertext", LargeBinary),
    Column("token_attempt", BigInteger, nullable=False),
    Column("granted", Text, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("life_ms", BigInteger, nullable=False),
    Column("lifetime_assumed", Boolean, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("owner", Text),
    Column("lease_until", BigInteger, nullable=False),
    Column("asked_by", Text),
)
LEASED = text("owner IS NOT NULL")
Index("ix_access_tokens_leased", access_tokens.c.owner, sqlite_where=LEASED, postgresql_where=LEASED)

client_secrets = Table(
    "client_secrets",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    _key_id("key_id"),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("token_origin", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Sorted, nullable=False, unique=True),
    Column("mac", LargeBinary, nullable=False),
    _key_id("mac_key_id"),
    Column("disabled", Boolean, nullable=False),
    Column("bootstrap_until", BigInteger),
    Column("row_mac", LargeBinary, nullable=False),
    _key_id("row_mac_key_id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("delivered", Boolean, nullable=False),
    Column("delivered_at", BigInteger, index=True),
)
PENDING = text("NOT delivered")
Index("ix_outbox_pending", outbox.c.id, sqlite_where=PENDING, postgresql_where=PENDING)

grant_counts = Table(
    "grant_counts",
    metadata,
    Column("state", Text, primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)
