"""Client secrets and API keys, and the events stored with changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.core.audit import AuditEvent
from broker.core.models import ApiKey
from broker.core.sealing import Sealed
from broker.core.secret import Secret


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

    async def add_secret(self, secret: ClientSecretVersion, event: AuditEvent) -> bool:
        """Store the version after the newest one, 1 where there is none, with its event in one transaction.

        False, and nothing stored, when the newest is no longer the one before it.
        """


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

    async def find_key_named(self, name: str) -> ApiKey | None:
        """Return the public part of the key of this name, or None."""

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
