"""The store in memory: the core's own steps on a dictionary, one event loop, nothing survives the process."""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.errors import AlreadyExistsError, NotFoundError, RevisionStaleError
from broker.core.globs import matches
from broker.core.grant_state import GrantState, Health, Hold, Phase, RedeemTimes
from broker.core.models import (
    AccessTokenKey,
    ApiKey,
    Catalog,
    Client,
    Grant,
    Issuer,
    Kind,
    Limit,
    Policy,
    Provider,
    RoleBinding,
)
from broker.core.scope_sets import check_one_more
from broker.core.sealing import Sealed
from broker.ports import (
    AttemptRecord,
    CatalogMovedError,
    ClientSecretVersion,
    DataKey,
    ObjectChange,
    PendingEvent,
    StoredAccessToken,
    StoredRefreshToken,
)

_MANY_GRANTS: Final = 1000
_CHANGES_KEPT: Final = 10_000
_ATTEMPTS_KEPT: Final = 200
_KEY_KIND: Final = "api_key"

O = TypeVar("O")  # noqa: E741 - the kind of object asked for


@dataclass(slots=True)
class _AccessRow:
    """A cache key's lease and token; `expires_at` and `lease_until` in the store's milliseconds."""

    attempt: int = 0
    owner: str | None = None
    lease_until: int = 0
    token: StoredAccessToken | None = None
    expires_at: int = 0
    asked_by: str = ""


class MemoryStore:
    """The ports CatalogStore, GrantStore, SecretStore, KeyStore, DataKeyStore and Outbox in one process's memory."""

    def __init__(self, times: RedeemTimes, clock: Callable[[], int] | None = None) -> None:
        """Make an empty store; `clock` returns milliseconds and never steps, CLOCK_BOOTTIME when left out."""
        self._times = times
        self._now = clock or _boot_ms
        self._version = 0
        self._revision = 0
        self._changes: deque[tuple[int, str, str]] = deque()
        self._objects: dict[tuple[Kind, str], object] = {}
        self._grants: dict[str, Grant] = {}
        self._sealed: dict[tuple[str, str], Sealed] = {}
        self._access: dict[AccessTokenKey, _AccessRow] = {}
        self._attempts: dict[str, deque[AttemptRecord]] = {}
        self._secrets: dict[str, ClientSecretVersion] = {}
        self._keys: dict[str, ApiKey] = {}
        self._data_keys: tuple[DataKey, ...] = ()
        self._outbox: dict[str, AuditEvent] = {}

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""

    # --- CatalogStore

    async def load_catalog(self) -> Catalog:
        """Return all objects but grants."""
        return Catalog(
            version=self._version,
            revision=self._revision,
            providers={item.name: item for item in self._only(Provider)},
            clients={item.name: item for item in self._only(Client)},
            policies=tuple(self._only(Policy)),
            limits=tuple(self._only(Limit)),
            issuers=tuple(self._only(Issuer)),
            roles=tuple(self._only(RoleBinding)),
        )

    async def read_version(self) -> int:
        """Return the version."""
        return self._version

    async def changed_grants(self, since: int) -> Sequence[str] | None:
        """Return ids of grants changed after version `since`, or None when too many, or too long ago, to tell."""
        if since < self._version - _CHANGES_KEPT:
            return None
        ids = {id_ for version, kind, id_ in self._changes if version > since and kind == Kind.GRANT}
        return None if len(ids) > _MANY_GRANTS else sorted(ids)

    async def write_objects(
        self,
        changes: Sequence[ObjectChange],
        *,
        revision: int | None,
        event: AuditEvent,
        expected_version: int | None = None,
    ) -> int:
        """Apply all changes in their order and raise the version; return it.

        Raises:
            CatalogMovedError: the version is not the expected one.
            RevisionStaleError: the stored revision is not smaller.
        """
        if expected_version is not None and expected_version != self._version:
            raise CatalogMovedError
        if revision is not None:
            if revision <= self._revision:
                msg = "the configuration's revision is not greater than the stored one"
                raise RevisionStaleError(msg, metadata={"stored_revision": str(self._revision)})
            self._revision = revision
        touched = [self._write_grant(item) if item.kind is Kind.GRANT else self._write_object(item) for item in changes]
        return self._changed(event, [id_ for id_ in touched if id_ is not None])

    # --- GrantStore

    async def find_grant(self, name: str) -> Grant | None:
        """Return the grant of this name with its state but not its tokens, or None."""
        return next((_bare(grant) for grant in self._grants.values() if grant.name == name), None)

    async def get_grant(self, grant_id: str) -> Grant | None:
        """Return the grant of this id with its state and tokens, or None."""
        return self._grants.get(grant_id)

    async def match_grants(self, patterns: Sequence[str], limit: int) -> Sequence[str]:
        """Return names of at most `limit` grants, in any state but revoked, that match one of the glob patterns."""
        usable = (grant.name for grant in self._grants.values() if display_state(grant.state) != "revoked")
        return sorted(name for name in usable if any(matches(pattern, name) for pattern in patterns))[:limit]

    async def list_grants(self, after: str, limit: int) -> Sequence[Grant]:
        """Return grants in name order, from the first name greater than `after`, without their tokens."""
        by_name = sorted(self._grants.values(), key=lambda grant: grant.name)
        return [_bare(grant) for grant in by_name if grant.name > after][:limit]

    async def grant_counts(self) -> Mapping[str, int]:
        """Return the number of grants by display state."""
        counted = Counter(display_state(grant.state) for grant in self._grants.values())
        return {state: counted[state] for state in ("ok", "quarantined", "unknown", "frozen", "revoked")}

    async def apply(self, grant_id: str, event: lease.Event, *, record: AuditEvent | None = None) -> GrantState | None:
        """Run one step of the redeem; return the state after it, or None when it did not happen.

        `record` is stored with a step that leaves the grant quarantined.

        Raises:
            TypeError: Land and Consented carry a token and have methods of their own.
        """
        if isinstance(event, lease.Land | lease.Consented):
            msg = f"{type(event).__name__} carries a token: it has a method of its own"
            raise TypeError(msg)
        after = self._step(grant_id, event)
        if record is not None and after is not None and after.health is Health.QUARANTINED:
            self._put_event(record)
        return after

    async def keep_and_land(self, grant_id: str, land: lease.Land, sealed: Sealed, received: AuditEvent) -> GrantState:
        """Keep the token and run Land; a grant removed meanwhile is shown as revoked."""
        self._sealed.setdefault((grant_id, land.fingerprint), sealed)
        self._put_event(received)
        return self._step(grant_id, land) or GrantState(hold=Hold.REVOKED)

    async def keep_and_consent(  # noqa: PLR0913 - the port's signature
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
        """Keep a first refresh token and run Consented; None if fenced off."""
        grant = self._grants.get(grant_id)
        if grant is None or (grant.state.consent, grant.state.attempt) != (expected_consent, expected_attempt):
            return None
        after = self._step(grant_id, event)
        if after is None:
            return None
        if any((kept.fingerprint, kept.attempt) == (event.fingerprint, after.attempt) for kept in after.tokens):
            self._sealed[grant_id, event.fingerprint] = sealed
        self._grants[grant_id] = replace(grant, state=after, subject=grant.subject if subject is None else subject)
        self._changed(received, [(Kind.GRANT, grant_id)])
        return after

    async def current_refresh_token(self, grant_id: str) -> StoredRefreshToken | None:
        """Return the sealed current refresh token, or None when the grant never had one."""
        grant = self._grants.get(grant_id)
        if grant is None:
            return None
        for token in grant.state.tokens:
            if token.fingerprint == grant.state.current:
                sealed = self._sealed[grant_id, token.fingerprint]
                return StoredRefreshToken(token.fingerprint, token.consent, token.attempt, sealed)
        return None

    async def finish(
        self, grant_id: str, event: lease.Finish, token: StoredAccessToken | None, asked_by: str
    ) -> GrantState | None:
        """Store the access token (only over a lower attempt) and run Finish."""
        if token is not None:
            row = self._access.setdefault(token.key, _AccessRow(attempt=-1))
            if row.attempt < token.attempt:
                if row.expires_at <= self._now():
                    row.asked_by = asked_by
                self._put_token(row, token)
        return self._step(grant_id, event)

    async def record_attempt(self, record: AttemptRecord) -> None:
        """Append to the grant's history, of which the newest _ATTEMPTS_KEPT stay."""
        self._attempts.setdefault(record.grant_id, deque(maxlen=_ATTEMPTS_KEPT)).append(record)

    async def list_attempts(self, grant_id: str, limit: int) -> Sequence[AttemptRecord]:
        """Return the newest attempts first."""
        return list(reversed(self._attempts.get(grant_id, ())))[:limit]

    # --- GrantStore: access tokens

    async def find_access_tokens(self, keys: Sequence[AccessTokenKey]) -> Mapping[AccessTokenKey, StoredAccessToken]:
        """Return live cached tokens for the keys."""
        now = self._now()
        rows = {key: self._access[key] for key in keys if key in self._access}
        return {
            key: replace(row.token, remaining_ms=row.expires_at - now)
            for key, row in rows.items()
            if row.token is not None and row.expires_at > now
        }

    async def take_access(self, key: AccessTokenKey, owner: str, asked_by: str) -> int | None:
        """Lease one client_credentials cache key; return the attempt, or None while another owner's lease lives.

        Raises:
            ScopeSetsError: with this key too many of the grant, or of `asked_by`, would be alive.
        """
        check_one_more(await self.live_scope_sets(key.grant_id, key), asked_by)
        row = self._access.setdefault(key, _AccessRow())
        if row.lease_until > self._now():
            return None
        if row.expires_at <= self._now():
            row.asked_by = asked_by
        row.attempt += 1
        row.owner = owner
        row.lease_until = self._now() + self._times.lease
        return row.attempt

    async def extend_access(self, key: AccessTokenKey, attempt: int) -> bool:
        """Keep that lease; False when it is no longer ours."""
        row = self._access.get(key)
        if row is None or row.attempt != attempt or row.owner is None:
            return False
        row.lease_until = self._now() + self._times.lease
        return True

    async def put_access(self, token: StoredAccessToken) -> bool:
        """Store a client_credentials token over a lower-or-equal attempt and free the lease; False when fenced off."""
        row = self._access.setdefault(token.key, _AccessRow(attempt=-1))
        if row.attempt > token.attempt:
            return False
        self._put_token(row, token)
        return True

    async def release_access(self, key: AccessTokenKey, attempt: int) -> None:
        """Free the lease without a token."""
        row = self._access.get(key)
        if row is not None and row.attempt == attempt:
            row.owner = None
            row.lease_until = 0

    async def live_scope_sets(self, grant_id: str, now_key: AccessTokenKey) -> Sequence[str]:
        """Return who first asked for each other key of the grant and epoch with an unexpired token or a live lease."""
        now = self._now()
        return [
            row.asked_by
            for key, row in self._access.items()
            if key != now_key
            and (key.grant_id, key.epoch) == (grant_id, now_key.epoch)
            and max(row.expires_at, row.lease_until) > now
        ]

    # --- SecretStore

    async def current_secret(self, client: str) -> ClientSecretVersion | None:
        """Return the version in use, or None."""
        return self._secrets.get(client)

    async def add_first_secret(self, secret: ClientSecretVersion, event: AuditEvent) -> bool:
        """Store a client's first secret; False when it has one already."""
        if secret.client_id in self._secrets:
            return False
        self._secrets[secret.client_id] = secret
        self._changed(event, [(Kind.CLIENT, secret.client_id)])
        return True

    # --- KeyStore

    async def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return the key's public part, or None."""
        return self._keys.get(key_id)

    async def list_api_keys(self) -> Sequence[ApiKey]:
        """Return all keys in name order."""
        return sorted(self._keys.values(), key=lambda key: key.name)

    async def add_api_key(self, key: ApiKey, event: AuditEvent) -> int:
        """Store a new key, raise the version; return it.

        Raises:
            AlreadyExistsError: the name or id is taken.
        """
        if key.id in self._keys or any(other.name == key.name for other in self._keys.values()):
            msg = "there is an API key of this name already"
            raise AlreadyExistsError(msg, metadata={"kind": _KEY_KIND, "name": key.name})
        self._keys[key.id] = key
        return self._changed(event, [(_KEY_KIND, key.id)])

    async def set_api_key(self, key: ApiKey, event: AuditEvent, *, expected_version: int | None = None) -> int:
        """Replace a key's MAC and whether it is disabled, raise the version; return it.

        Raises:
            CatalogMovedError: the version is not the expected one.
            NotFoundError: there is no key of this id.
        """
        if expected_version is not None and expected_version != self._version:
            raise CatalogMovedError
        stored = self._keys.get(key.id)
        if stored is None:
            msg = "there is no such API key"
            raise NotFoundError(msg, metadata={"kind": _KEY_KIND, "name": key.name})
        self._keys[key.id] = replace(stored, mac=key.mac, mac_key_id=key.mac_key_id, disabled=key.disabled)
        return self._changed(event, [(_KEY_KIND, key.id)])

    # --- DataKeyStore

    async def load_data_keys(self) -> Sequence[DataKey]:
        """Return all rows, by id."""
        return sorted(self._data_keys, key=lambda key: key.id)

    async def add_first_data_keys(self, keys: Sequence[DataKey]) -> bool:
        """Insert the first rows; False when there are any already."""
        if self._data_keys:
            return False
        self._data_keys = tuple(keys)
        return True

    # --- Outbox

    async def undelivered(self, limit: int) -> Sequence[PendingEvent]:
        """Return at most `limit` events not marked delivered."""
        return [PendingEvent(id_, event) for id_, event in self._outbox.items()][:limit]

    async def mark_delivered(self, ids: Sequence[str]) -> None:
        """Forget these events: the audit log holds them."""
        for id_ in ids:
            self._outbox.pop(id_, None)

    # --- inside

    def _only(self, kind: type[O]) -> Iterable[O]:
        return (item for _, item in sorted(self._objects.items()) if isinstance(item, kind))

    def _step(self, grant_id: str, event: lease.Event) -> GrantState | None:
        grant = self._grants.get(grant_id)
        if grant is None:
            return None
        after = lease.step(grant.state, event, self._now(), self._times)
        if after is not None:
            self._grants[grant_id] = replace(grant, state=after)
        return after

    def _put_token(self, row: _AccessRow, token: StoredAccessToken) -> None:
        row.attempt = token.attempt
        row.token = token
        row.expires_at = self._now() + token.remaining_ms
        row.owner = None
        row.lease_until = 0

    def _put_event(self, event: AuditEvent) -> None:
        self._outbox[secrets.token_hex(16)] = event.bounded()

    def _changed(self, event: AuditEvent, touched: Iterable[tuple[str, str]]) -> int:
        self._version += 1
        self._put_event(event)
        self._changes.extend((self._version, kind, id_) for kind, id_ in touched)
        while self._changes and self._changes[0][0] <= self._version - _CHANGES_KEPT:
            self._changes.popleft()
        return self._version

    def _write_object(self, item: ObjectChange) -> tuple[str, str] | None:
        stored = self._objects.get((item.kind, item.name))
        if item.value is None:
            removed = self._objects.pop((item.kind, item.name), None)
            if isinstance(removed, Client):
                self._secrets.pop(removed.id, None)
            return None if removed is None else (item.kind, _id_of(removed))
        value = item.value if stored is None else _with_id(item.value, _id_of(stored))
        self._objects[item.kind, item.name] = value
        return (item.kind, _id_of(value))

    def _write_grant(self, item: ObjectChange) -> tuple[str, str] | None:
        stored = next((grant for grant in self._grants.values() if grant.name == item.name), None)
        if item.value is None:
            if stored is None:
                return None
            del self._grants[stored.id]
            self._access = {key: row for key, row in self._access.items() if key.grant_id != stored.id}
            return (Kind.GRANT, stored.id)
        value = item.value
        if not isinstance(value, Grant):
            msg = "a grant's change carries a grant"
            raise TypeError(msg)
        if stored is None:
            written = replace(value, state=GrantState())
        else:
            epoch = stored.state.epoch + (stored.client != value.client)
            state = replace(stored.state, epoch=epoch)
            written = replace(value, id=stored.id, subject=stored.subject, state=state)
        self._grants[written.id] = written
        return (Kind.GRANT, written.id)


def display_state(state: GrantState) -> str:
    """Return the one word a grant is shown with."""
    if state.hold in {Hold.REVOKING, Hold.REVOKED}:
        return "revoked"
    if state.hold is Hold.FROZEN:
        return "frozen"
    if state.health is Health.QUARANTINED:
        return "quarantined"
    return "unknown" if state.phase is Phase.UNKNOWN else "ok"


def _bare(grant: Grant) -> Grant:
    return replace(grant, state=replace(grant.state, tokens=()))


def _id_of(value: object) -> str:
    if not isinstance(value, Provider | Client | Policy | Limit | Issuer | RoleBinding):
        msg = "not a configured object"
        raise TypeError(msg)
    return value.id


def _with_id(value: object, object_id: str) -> object:
    if not isinstance(value, Provider | Client | Policy | Limit | Issuer | RoleBinding):
        msg = "not a configured object"
        raise TypeError(msg)
    return replace(value, id=object_id)


def _boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
