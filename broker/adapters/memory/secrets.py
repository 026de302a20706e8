"""Client secrets, API keys, rows of data keys and the outbox, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from broker.adapters.memory.base import Base
from broker.core.audit import AuditEvent
from broker.core.errors import AlreadyExistsError, NotFoundError
from broker.core.models import ApiKey, Kind
from broker.ports import CatalogMovedError, ClientSecretVersion, DataKey, PendingEvent

_KEY_KIND: Final = "api_key"


class MemorySecrets(Base):
    """The ports SecretStore, KeyStore, DataKeyStore and Outbox."""

    async def current_secret(self, client: str) -> ClientSecretVersion | None:
        """Return the version in use, or None."""
        return self._secrets.get(client)

    async def add_secret(self, secret: ClientSecretVersion, event: AuditEvent) -> bool:
        """Store a client's next secret; False when another one came first."""
        newest = self._secrets.get(secret.client_id)
        if (0 if newest is None else newest.version) + 1 != secret.version:
            return False
        self._secrets[secret.client_id] = secret
        self._changed(event, [(Kind.CLIENT, secret.client_id)])
        return True

    async def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return the key's public part, or None."""
        return self._keys.get(key_id)

    async def find_key_named(self, name: str) -> ApiKey | None:
        """Return the public part of the key of this name, or None."""
        return next((key for key in self._keys.values() if key.name == name), None)

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

    async def load_data_keys(self) -> Sequence[DataKey]:
        """Return all rows, by id."""
        return sorted(self._data_keys, key=lambda key: key.id)

    async def add_first_data_keys(self, keys: Sequence[DataKey]) -> bool:
        """Insert the first rows; False when there are any already."""
        if self._data_keys:
            return False
        self._data_keys = tuple(keys)
        return True

    async def undelivered(self, limit: int) -> Sequence[PendingEvent]:
        """Return at most `limit` events not marked delivered."""
        return [PendingEvent(id_, event) for id_, event in self._outbox.items()][:limit]

    async def mark_delivered(self, ids: Sequence[str]) -> None:
        """Forget these events: the audit log holds them."""
        for id_ in ids:
            self._outbox.pop(id_, None)
