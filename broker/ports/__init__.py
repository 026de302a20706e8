"""The seam: what flows need and adapters implement, with what every implementer must guarantee.

All methods that do I/O are coroutines, end within the deadline stated and raise only BrokerError subclasses named
there, or the two send errors of `provider`; anything else is a bug of the adapter.
"""

from broker.ports.audit import AuditLog, AuditSink, Buckets, OutboxSink
from broker.ports.authorizations import AuthorizationStore, LoginReading, Subjects
from broker.ports.catalog import CatalogMovedError, CatalogStore, LiveGrantError, ObjectChange
from broker.ports.clock import Clock
from broker.ports.edge import CallerSignatures, LimitTelemetry, RedeemTelemetry, ServerTls, Telemetry, TlsMaterial
from broker.ports.evidence import Evidence, EvidenceError, RollbackStore, Suspect
from broker.ports.grants import (
    AccessTokenStore,
    AttemptRecord,
    DueToken,
    EndedToken,
    GrantReading,
    GrantStore,
    ReplicaStore,
    StoredAccessToken,
    StoredRefreshToken,
)
from broker.ports.journal import Journal, JournalError, Received, ReceivedLogin, ReceivedToken
from broker.ports.keys import (
    Cipher,
    DataKey,
    DataKeyStore,
    KeyPurpose,
    KeyState,
    MacKeys,
    SealBrokenError,
    UnknownMacKeyError,
)
from broker.ports.provider import AssertionSigner, Discovery, NotSentError, Presets, ReplyLostError, TokenEndpoint
from broker.ports.secrets import (
    ClientSecretVersion,
    KeyStore,
    Outbox,
    PendingEvent,
    SecretSource,
    SecretStore,
    SecretUnreadableError,
)

__all__ = [
    "AccessTokenStore",
    "AssertionSigner",
    "AttemptRecord",
    "AuditLog",
    "AuditSink",
    "AuthorizationStore",
    "Buckets",
    "CallerSignatures",
    "CatalogMovedError",
    "CatalogStore",
    "Cipher",
    "ClientSecretVersion",
    "Clock",
    "DataKey",
    "DataKeyStore",
    "Discovery",
    "DueToken",
    "EndedToken",
    "Evidence",
    "EvidenceError",
    "GrantReading",
    "GrantStore",
    "Journal",
    "JournalError",
    "KeyPurpose",
    "KeyState",
    "KeyStore",
    "LimitTelemetry",
    "LiveGrantError",
    "LoginReading",
    "MacKeys",
    "NotSentError",
    "ObjectChange",
    "Outbox",
    "OutboxSink",
    "PendingEvent",
    "Presets",
    "Received",
    "ReceivedLogin",
    "ReceivedToken",
    "RedeemTelemetry",
    "ReplicaStore",
    "ReplyLostError",
    "RollbackStore",
    "SealBrokenError",
    "SecretSource",
    "SecretStore",
    "SecretUnreadableError",
    "ServerTls",
    "StoredAccessToken",
    "StoredRefreshToken",
    "Subjects",
    "Suspect",
    "Telemetry",
    "TlsMaterial",
    "TokenEndpoint",
    "UnknownMacKeyError",
]
