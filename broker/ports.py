"""The seam: what flows need and adapters implement, with what every implementer must guarantee.

All methods that do I/O are coroutines, end within the deadline stated and raise only BrokerError subclasses named
here, or the two send errors below; anything else is a bug of the adapter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.gcra import Charge, Decision
from broker.core.grant_state import GrantState
from broker.core.models import AccessTokenKey, ApiKey, Catalog, Client, Grant, Issuer, Kind, Origin, Provider
from broker.core.oauth.rfc6749 import HttpReply, HttpRequest
from broker.core.provider_config import ProviderConfig
from broker.core.sealing import Binding, Sealed
from broker.core.secret import Secret


class Clock(Protocol):
    """Time as flows may know it."""

    def now(self) -> float:
        """UTC, seconds since the epoch; may step. For people and JWTs, never for safety."""

    def boottime(self) -> float:
        """Seconds of CLOCK_BOOTTIME: never steps, counts suspend. For lifetimes and deadlines."""


# --- the store -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One write to a configured object, applied with others in one transaction.

    Attributes:
        value: the object to put (Provider, Client, Grant, Policy, Limit, Issuer or RoleBinding), or None to remove.
            For a grant only its configuration is written: a new grant gets a fresh state, an old one keeps its own.
        name: the object's name.
    """

    kind: Kind
    name: str
    value: object | None


class CatalogMovedError(Exception):
    """The version is no longer the one a change was decided on: decide again."""


class CatalogStore(Protocol):
    """Everything configured, and the version that says whether it moved."""

    async def load_catalog(self) -> Catalog:
        """Return all objects but grants, MACs verified, as of one version.

        Raises:
            StoreUnavailableError: when the database is away, or a MAC does not verify (cause `mac`): then nothing is
                trusted and nothing is handed out.
        """

    async def read_version(self) -> int:
        """Return `control.version`; cheap; StoreUnavailableError within one second."""

    async def changed_grants(self, since: int) -> Sequence[str] | None:
        """Return ids of grants changed after version `since`, or None when too many, or too long ago: then drop all."""

    async def write_objects(
        self,
        changes: Sequence[ObjectChange],
        *,
        revision: int | None,
        event: AuditEvent,
        expected_version: int | None = None,
    ) -> int:
        """Apply all changes and raise the version, in one transaction; return the new version.

        With `revision`, the stored revision must be smaller and is replaced. With `expected_version`, nothing is
        written unless the version is still that one. The event is stored in the same transaction (outbox), so that no
        change goes unrecorded.

        Raises:
            CatalogMovedError: the version is another one.
            RevisionStaleError: the stored revision is not smaller.
            StoreUnavailableError: nothing was changed, or the outcome was read back as not changed.
        """


@dataclass(frozen=True, slots=True)
class StoredRefreshToken:
    """The current refresh token of a grant, sealed, and the facts it is bound to."""

    fingerprint: str
    consent: int
    attempt: int
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class StoredAccessToken:
    """A cached access token as the store has it.

    Attributes:
        attempt: the attempt that got it.
        granted: wire scopes the token really has, sorted.
        verified: the provider stated the scopes (reply or claim).
        life_ms: whole life as issued; remaining_ms: what is left by the database's clock, read in the same statement.
        lifetime_assumed: `expires_in` was absent.
    """

    key: AccessTokenKey
    attempt: int
    sealed: Sealed
    granted: tuple[str, ...]
    verified: bool
    life_ms: int
    remaining_ms: int
    lifetime_assumed: bool


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One line of a grant's history. `cause` comes from a closed list, never from a peer."""

    grant_id: str
    attempt: int
    owner: str
    secret_version: int
    outcome: str
    cause: str = ""


class GrantStore(Protocol):
    """Grants, their redeem, their sealed tokens. Every step is one short transaction; none is held over a call."""

    async def find_grant(self, name: str) -> Grant | None:
        """Return the grant of this name with its state, or None."""

    async def get_grant(self, grant_id: str) -> Grant | None:
        """Return the grant of this id with its state (tokens included), or None."""

    async def match_grants(self, patterns: Sequence[str], limit: int) -> Sequence[str]:
        """Return names of at most `limit` grants, in any state but revoked, that match one of the glob patterns."""

    async def list_grants(self, after: str, limit: int) -> Sequence[Grant]:
        """Return grants in name order, from the first name greater than `after`."""

    async def grant_counts(self) -> Mapping[str, int]:
        """Return the number of grants by display state, from counters.

        The states are `ok`, `quarantined`, `unknown`, `frozen` and `revoked`.
        """

    async def apply(self, grant_id: str, event: lease.Event, *, record: AuditEvent | None = None) -> GrantState | None:
        """Run one step of the redeem (any event but Land and Consented) in a transaction of its own.

        `record` tells of a quarantine: it is stored in the same transaction (outbox) when the step happened and left
        the grant quarantined.

        Return the state after it (its `tokens` may be left empty), or None when the step did not happen. A commit whose
        answer was lost is read back before this returns.
        Sent is durable when this returns.
        """

    async def keep_and_land(self, grant_id: str, land: lease.Land, sealed: Sealed, received: AuditEvent) -> GrantState:
        """Insert the received token unconditionally and run Land, in one durable transaction with its event.

        Return the state afterwards; `current == land.fingerprint` tells whether it became the current one.
        """

    async def keep_and_consent(  # noqa: PLR0913 - one write
        self,
        grant_id: str,
        event: lease.Consented,
        expected_consent: int,
        sealed: Sealed,
        subject: str | None,
        received: AuditEvent,
        *,
        expected_attempt: int,
    ) -> GrantState | None:
        """Insert a first refresh token and run Consented, with its event and a new version, in one transaction.

        The token is sealed for consent+1 and attempt+1 of the state read before, so both are fenced: None, and nothing
        written, when either moved since or the grant is held. A token that is there already is replaced while it was
        never sent nor refused. A `subject` of None leaves the grant's own.
        """

    async def current_refresh_token(self, grant_id: str) -> StoredRefreshToken | None:
        """Return the sealed current refresh token, or None when the grant never had one."""

    async def find_access_tokens(self, keys: Sequence[AccessTokenKey]) -> Mapping[AccessTokenKey, StoredAccessToken]:
        """Return live cached tokens for the keys, all in one statement."""

    async def finish(
        self, grant_id: str, event: lease.Finish, token: StoredAccessToken | None, asked_by: str
    ) -> GrantState | None:
        """Store the access token (only over a lower attempt) and run Finish, in one durable transaction.

        A commit whose answer was lost is read back before this returns. `token.remaining_ms` is what is left now, None
        for `token` stores none; `asked_by` is who brought a set to life that was not alive.
        """

    async def take_access(self, key: AccessTokenKey, owner: str, asked_by: str) -> int | None:
        """Lease one client_credentials cache key; return the attempt, or None while another owner's lease lives.

        Raises:
            ScopeSetsError: with this key too many of the grant, or of `asked_by`, would be alive (`core/scope_sets`).
        """

    async def extend_access(self, key: AccessTokenKey, attempt: int) -> bool:
        """Keep that lease; False when it is no longer ours."""

    async def put_access(self, token: StoredAccessToken) -> bool:
        """Store a client_credentials token over a lower-or-equal attempt and free the lease; False when fenced off."""

    async def release_access(self, key: AccessTokenKey, attempt: int) -> None:
        """Free the lease without a token."""

    async def live_scope_sets(self, grant_id: str, now_key: AccessTokenKey) -> Sequence[str]:
        """Return who first asked for each other key of the grant and epoch with an unexpired token or a live lease."""

    async def record_attempt(self, record: AttemptRecord) -> None:
        """Append to the grant's history; of a long one the newest 200 stay."""

    async def list_attempts(self, grant_id: str, limit: int) -> Sequence[AttemptRecord]:
        """Return the newest attempts first."""


@dataclass(frozen=True, slots=True)
class ClientSecretVersion:
    """One version of a client's secret; `sealed` only where the flow is going to use it."""

    client_id: str
    version: int
    sealed: Sealed
    token_origin: str


class SecretStore(Protocol):
    """Versioned client secrets, sealed. `client` is the client's row id, not its OAuth client_id."""

    async def current_secret(self, client: str) -> ClientSecretVersion | None:
        """Return the version in use, or None."""

    async def add_first_secret(self, secret: ClientSecretVersion, event: AuditEvent) -> bool:
        """Store version 1 with its event in one transaction; False when the client has a secret already."""


class SecretUnreadableError(Exception):
    """A place a client's first secret was to be read from has none we may read; the text says why, never a secret."""


class SecretSource(Protocol):
    """A place on this machine where one client's first secret stands."""

    def read(self) -> Secret:
        """Return the secret; called only while the client has none.

        Raises:
            SecretUnreadableError: it is not there, or not where secrets may be read.
        """


class KeyStore(Protocol):
    """API keys, by their public id."""

    async def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return the key's public part, or None."""

    async def list_api_keys(self) -> Sequence[ApiKey]:
        """Return all keys in name order."""

    async def add_api_key(self, key: ApiKey, event: AuditEvent) -> int:
        """Store a new key and its event, raise the version; AlreadyExistsError when the name or id is taken."""

    async def set_api_key(self, key: ApiKey, event: AuditEvent, *, expected_version: int | None = None) -> int:
        """Replace a key's mutable part (mac, disabled) and raise the version; NotFoundError.

        With `expected_version`, nothing is written unless the version is still that one: CatalogMovedError.
        """


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event stored with the change it tells of, not yet in the audit log; `id` is random."""

    id: str
    event: AuditEvent


class Outbox(Protocol):
    """Events stored in the transaction of their change, until the audit log has them."""

    async def undelivered(self, limit: int) -> Sequence[PendingEvent]:
        """Return at most `limit` events not marked delivered, in no promised order."""

    async def mark_delivered(self, ids: Sequence[str]) -> None:
        """Note that the audit log holds these events; they are forgotten, at once or later."""


# --- keys ------------------------------------------------------------------------------------------------------------


class Cipher(Protocol):
    """Sealing under data keys that a key-encryption key wraps."""

    async def seal(self, secret: Secret, bound_to: Binding) -> Sealed:
        """Seal under the primary data key."""

    async def open(self, sealed: Sealed, bound_to: Binding) -> Secret:
        """Open; an unknown key id is loaded from its row and tried once more.

        Raises:
            StoreUnavailableError: the key cannot be had now (cause `key`).
            SealBrokenError: it does not open: another row, another endpoint, another key; never a grant state.
        """

    def fingerprint(self, secret: Secret) -> str:
        """Return the keyed fingerprint (hexadecimal) of a token: names it, reveals nothing, stable for ever."""


class KeyPurpose(StrEnum):
    """What a data key is for."""

    AEAD = "aead"
    MAC = "mac"
    FINGERPRINT = "fingerprint"


class KeyState(StrEnum):
    """Life of a data key: staged keys open but do not seal yet, the primary seals, disabled ones do nothing."""

    STAGED = "staged"
    PRIMARY = "primary"
    ENABLED = "enabled"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key's row: one one-key Tink keyset, wrapped once per key-encryption key.

    Attributes:
        id: also found in every ciphertext's prefix.
        wraps: KEK URI → wrapped keyset.
    """

    id: str
    purpose: KeyPurpose
    state: KeyState
    wraps: Mapping[str, bytes]


class DataKeyStore(Protocol):
    """Rows of data keys; holds nothing that opens without a KEK."""

    async def load_data_keys(self) -> Sequence[DataKey]:
        """Return all rows."""

    async def add_first_data_keys(self, keys: Sequence[DataKey]) -> bool:
        """Insert the first rows; False, and nothing written, when the table holds any row already."""


class SealBrokenError(Exception):
    """A ciphertext did not open under its binding."""


class UnknownMacKeyError(Exception):
    """A tag names a MAC key that is not loaded: `MacKeys.load` it, then verify once more."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id


class MacKeys(Protocol):
    """Keyed MACs over rows and API keys."""

    def mac(self, data: bytes) -> tuple[str, bytes]:
        """Return (key id, tag) under the primary MAC key."""

    def verify(self, key_id: str, data: bytes, tag: bytes) -> bool:
        """Tell in constant time whether the tag is right under the key of that id.

        Raises:
            UnknownMacKeyError: the key is not loaded, perhaps because another replica made it a moment ago.
        """

    async def load(self, key_id: str) -> None:
        """Load the key from its row.

        Raises:
            StoreUnavailableError: it cannot be had now, is disabled or is not there (cause `key`).
        """


# --- the provider ----------------------------------------------------------------------------------------------------


class NotSentError(Exception):
    """No byte of the request was written; `cause` is one of: dns, connect, tls, egress, withheld, timeout."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ReplyLostError(Exception):
    """Bytes were written and no whole reply came; `cause` is one of: timeout, reset, too_large, malformed.

    `partial` is what had come, when the reply's head was whole: a refresh token may stand in it.
    """

    def __init__(self, cause: str, partial: HttpReply | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.partial = partial


class TokenEndpoint(Protocol):
    """One POST to a provider's token endpoint over a connection of its own."""

    async def send(
        self,
        provider: Provider,
        request: HttpRequest,
        *,
        before_write: Callable[[], Awaitable[None]],
        reply_deadline: float,
    ) -> HttpReply:
        """Connect, await `before_write`, write, read the whole reply.

        Guarantees: a new connection, TLS verified and done before `before_write` is awaited; not a byte of the request
        is written before it returns, nothing is awaited between its return and the write, and when it raises nothing is
        written and its exception comes out unchanged. No redirect is followed, nothing is sent twice. The reply is at
        most 256 KiB. `reply_deadline` is in seconds from the write and ends the read whatever drips in.

        Raises:
            NotSentError: before the first byte.
            ReplyLostError: after it.
        """


class AssertionSigner(Protocol):
    """Signs client assertions for private_key_jwt (RFC 7523 §2.2, §3)."""

    def sign(self, provider: Provider, client: Client, private_key: Secret, *, now: float) -> str:
        """Return an assertion for one request: audience the provider's issuer, one-time `jti`, at most 60 s of life.

        `now` is UTC in seconds.

        Raises:
            ProviderRefusedClientError: the stored secret is no private key that can be used (cause `private_key`).
        """


class Presets(Protocol):
    """What is peculiar to a kind of provider; computes, asks nobody."""

    def needs_discovery(self, config: ProviderConfig) -> str | None:
        """Return the issuer whose metadata `resolve` needs, or None when the configuration says it all."""

    def vocabulary(self, config: ProviderConfig) -> Provider | None:
        """Return a provider that is right in nothing but its scopes, whatever else the configuration says.

        None where not even the preset is known.
        """

    def resolve(
        self, config: ProviderConfig, metadata: Mapping[str, object] | None, *, provider_id: str, origin: Origin
    ) -> Provider:
        """Return the provider of a checked configuration.

        Raises:
            ProviderUnavailableError: the metadata lacks or contradicts what is needed.
        """


class Discovery(Protocol):
    """Authorization server metadata (RFC 8414, OpenID Connect Discovery)."""

    async def discover(self, issuer: str, *, insecure_loopback: bool) -> Mapping[str, object]:
        """Return the metadata whose `issuer` equals the one asked for.

        Raises:
            ProviderUnavailableError: not reachable, or not metadata of this issuer (cause says which).
        """


# --- limits and audit ------------------------------------------------------------------------------------------------


class Buckets(Protocol):
    """Rate limit buckets; a batch of charges is spent all or nothing."""

    async def spend(self, charges: Sequence[Charge]) -> Decision:
        """Spend every charge, or none; bounded in time, never raises for a full or unknown bucket."""


class AuditSink(Protocol):
    """Where audit events become durable."""

    async def record(self, event: AuditEvent) -> int:
        """Return once the event is durable, with `control.version` as of that commit.

        Raises:
            AuditUnavailableError: within one second, naming the cause; the event may or may not be stored.
        """

    def offer(self, event: AuditEvent) -> bool:
        """Queue an event nobody waits for; False when the queue's share for such events is full: count it then."""


class OutboxSink(Protocol):
    """Where events of the outbox become durable audit events."""

    async def deliver(self, pending: Sequence[PendingEvent]) -> None:
        """Return once each event is durable, exactly once however often and by however many it is delivered.

        Raises:
            AuditUnavailableError: within one second; some may be stored: deliver all again.
        """


class AuditLog(Protocol):
    """The audit events as operators read them."""

    async def newest(self, limit: int) -> Sequence[AuditEvent]:
        """Return at most `limit` durable events, newest first."""


# --- the edge --------------------------------------------------------------------------------------------------------


class Telemetry(Protocol):
    """What is counted, timed and told to operators; no method raises, waits, or is given a caller's or grant's name."""

    def request_finished(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Count one RPC by full method, status code and reason (empty for success)."""

    def token_issued(self, source: str) -> None:
        """Count one token handed out, by where it came from: memory, store or provider."""

    def redeem_finished(self, provider: str, client: str, outcome: str, cause: str) -> None:
        """Count one redeem attempt, by provider and outcome (an Outcome's value); tell operators why one failed."""

    def denials_dropped(self, count: int) -> None:
        """Count denials whose audit event found no room or no store."""

    def certificate_served(self, serial: str, not_after: float) -> None:
        """Say which server certificate is served now, and its end in UTC epoch seconds."""

    def certificate_refused(self) -> None:
        """Count one set of changed TLS files that was not taken."""


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """One verified set of TLS files; all of it or none is served.

    Attributes:
        version: grows with every swap.
        certificate_chain: PEM, leaf first; private_key: its key, PEM.
        client_ca: PEM bundle that client certificates must chain to, or None where none are asked for.
    """

    version: int
    certificate_chain: bytes
    private_key: Secret
    client_ca: bytes | None


class ServerTls(Protocol):
    """The TLS material served now."""

    def current(self) -> TlsMaterial:
        """Return the material in use; cheap; may be called from any thread."""

    def trusts_client(self, unverified_chain: bytes, now: float) -> bool:
        """Tell whether a PEM chain (leaf first) is valid at `now` (UTC seconds) under the current client CA bundle."""


class CallerSignatures(Protocol):
    """Signatures of caller JWTs, under the keys their issuers publish."""

    @property
    def generation(self) -> int:
        """Grows whenever any issuer's keys were seen to change."""

    async def verify(self, issuer: Issuer, unverified_jwt: str, algorithm: str, kid: str | None) -> None:
        """Return when the JWT is signed with `algorithm` by the issuer's key of that id; within five seconds.

        Without `kid` the issuer must have exactly one key for the algorithm.

        Raises:
            UnauthenticatedError: it is not, or the issuer's keys cannot be had; the cause says which.
        """
