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

ZERO = text("0")

Serial = BigInteger().with_variant(Integer, "sqlite")
"""A number the database gives; only ever for display order, never a cursor: a later number can commit first."""

control = Table(
    "control",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("rotations", BigInteger, nullable=False, server_default=ZERO),
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
    Column("person", Text),
    Column("mac", LargeBinary, nullable=False),
    _key_id("mac_key_id"),
    Column("consent", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("current", Text),
    Column("doubted", Text),
    Column("phase", Text, nullable=False),
    Column("health", Text, nullable=False),
    Column("hold", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("owner", Text),
    Column("lease_until", BigInteger, nullable=False),
    Column("first_sent_at", BigInteger),
    Column("last_sent_at", BigInteger),
    Column("replay_until", BigInteger),
    Column("sends", BigInteger, nullable=False),
    Column("probes", BigInteger, nullable=False),
    Column("settled_at", BigInteger),
    Column("not_before", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False, server_default=ZERO),
    Column("landed", BigInteger, nullable=False, server_default=ZERO),
)
BUSY = text("phase <> 'idle'")
"""Few grants are being redeemed at a time: a start on SQLite, and who looks for those left behind, reads only these."""
Index("ix_grants_busy", grants.c.id, sqlite_where=BUSY, postgresql_where=BUSY)
QUARANTINED = text("health <> 'ok'")
Index("ix_grants_quarantined", grants.c.id, sqlite_where=QUARANTINED, postgresql_where=QUARANTINED)
REVOKING = text("hold = 'revoking'")
Index("ix_grants_revoking", grants.c.id, sqlite_where=REVOKING, postgresql_where=REVOKING)

# No foreign key to grants: a token received for a grant removed meanwhile is kept all the same.
refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("grant_id", Text, primary_key=True),
    Column("fingerprint", Sorted, primary_key=True),
    Column("consent", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False, server_default=ZERO),
    _key_id("key_id", nullable=True),
    Column("ciphertext", LargeBinary),
    Column("received_at", BigInteger, nullable=False),
    Column("first_sent_at", BigInteger),
    Column("refused_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("late", Boolean, nullable=False, server_default=text("false")),
)
UNUSED = text("first_sent_at IS NULL AND refused_at IS NULL")
"""Tokens never sent: one beside the current one is to be adopted. A grant has few, however long its history."""
Index("ix_refresh_tokens_unused", refresh_tokens.c.grant_id, sqlite_where=UNUSED, postgresql_where=UNUSED)
LATE = text("late AND revoked_at IS NULL AND refused_at IS NULL")
"""Tokens that came after their grant or consent ended: the provider has to be told."""
Index("ix_refresh_tokens_late", refresh_tokens.c.grant_id, sqlite_where=LATE, postgresql_where=LATE)

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
    Column("consent", BigInteger),
    Column("sent_at", BigInteger),
    Index("ix_attempts_grant_id_number", "grant_id", "number"),
)
OPEN = text("outcome = ''")
"""Sends whose owner has not said yet that nothing more will come."""
Index("ix_attempts_open", attempts.c.grant_id, sqlite_where=OPEN, postgresql_where=OPEN)

# Of a grant that was removed since, a row is nobody's.
suspects = Table(
    "suspects",
    metadata,
    Column("grant_id", Text, primary_key=True),
    Column("attempt", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("found_at", BigInteger, nullable=False),
)

replicas = Table(
    "replicas",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("volume", Text, nullable=False),
    Column("beat_at", BigInteger, nullable=False, index=True),
    Column("drained_at", BigInteger),
)

# A key's scopes and resource may be longer than an index takes: `digest` stands for all of the key but the grant.
access_tokens = Table(
    "access_tokens",
    metadata,
    Column("grant_id", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    _key_id("key_id", nullable=True),
    Column("ciphertext", LargeBinary),
    Column("token_attempt", BigInteger, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("granted", Text, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("life_ms", BigInteger, nullable=False),
    Column("lifetime_assumed", Boolean, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("renew_at", BigInteger, index=True),
    Column("used_at", BigInteger, nullable=False),
    Column("owner", Text),
    Column("lease_until", BigInteger, nullable=False),
    Column("asked_by", Text, nullable=False),
)
LEASED = text("owner IS NOT NULL")
Index("ix_access_tokens_leased", access_tokens.c.owner, sqlite_where=LEASED, postgresql_where=LEASED)

ended_tokens = Table(
    "ended_tokens",
    metadata,
    Column("version", BigInteger, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("grant_name", Text, nullable=False),
    Column("granted", Text, nullable=False),
)

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

# What is fixed of a login lies in `facts`, to which what is sealed here is bound.
authorizations = Table(
    "authorizations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("starter", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("failure", Text, nullable=False),
    Column("browser", Text, nullable=False),
    Column("person", Text),
    Column("tries", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("taken", Boolean, nullable=False),
    Column("granted", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("moved_at", BigInteger, nullable=False),
    _key_id("key_id"),
    Column("verifier", LargeBinary, nullable=False),
    _key_id("received_key_id", nullable=True),
    Column("received", LargeBinary),
)
UNDER_WAY = text("phase NOT IN ('connected', 'failed')")
Index("ix_authorizations_open", authorizations.c.starter, sqlite_where=UNDER_WAY, postgresql_where=UNDER_WAY)
STATED = text("state <> ''")
Index("ix_authorizations_state", authorizations.c.state, sqlite_where=STATED, postgresql_where=STATED)
CODED = text("code <> ''")
Index("ix_authorizations_code", authorizations.c.code, sqlite_where=CODED, postgresql_where=CODED)

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
