"""API keys: made, shown without their secret, ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.core import admins
from broker.core.api_keys import ID_BYTES, SECRET_BYTES, build_api_key, maced_api_key
from broker.core.audit import Action
from broker.core.errors import InvalidRequestError, NotFoundError
from broker.core.models import ApiKey, Catalog
from broker.core.secret import Secret
from broker.flows.stored_config import settled
from broker.flows.trail import Trail
from broker.ports import AuditSink, CatalogStore, Clock, KeyStore, MacKeys

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
KIND: Final = "api_key"
RESERVED: Final = "bootstrap-admin"
"""The broker's own name for the first admin's key, alone or with a number behind it."""


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key: the whole of it, shown once, and its public part."""

    secret: Secret
    key: ApiKey


class ApiKeys:
    """The three stories of an API key."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        keys: KeyStore,
        catalogs: CatalogStore,
        macs: MacKeys,
        audit: AuditSink,
        clock: Clock,
        changing: asyncio.Lock,
        trusts_spiffe: bool,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._keys = keys
        self._catalogs = catalogs
        self._macs = macs
        self._audit = audit
        self._clock = clock
        self._changing = changing
        self._trusts_spiffe = trusts_spiffe
        self._random_bytes = random_bytes

    async def create(self, name: str, trail: Trail) -> MadeKey:
        """Make a key that proves the caller `key:<name>`.

        Raises:
            InvalidRequestError: the name is none.
            AlreadyExistsError: there is, or was, a key of this name.
            StoreUnavailableError: nothing was stored.
        """
        trail.object_kind, trail.object_name = KIND, name
        if not NAME.fullmatch(name):
            problem = "letters, digits, dots, dashes and underscores, at most 64"
            raise InvalidRequestError(f"a key's name has {problem}", fields={"name": problem})
        if name == RESERVED or name.startswith(f"{RESERVED}-"):
            raise InvalidRequestError("this name is kept for the first admin's key", fields={"name": "reserved"})
        key_id, secret = build_api_key(self._random_bytes(ID_BYTES), self._random_bytes(SECRET_BYTES))
        mac_key_id, mac = self._macs.mac(maced_api_key(secret, name, None))
        key = ApiKey(id=key_id, name=name, mac=mac, mac_key_id=mac_key_id)
        event = trail.event(Action.KEY_CREATE, self._clock.now(), detail=f"id {key_id}")
        await self._keys.add_api_key(key, event)
        return MadeKey(secret, key)

    async def list_keys(self, trail: Trail) -> Sequence[ApiKey]:
        """Return all keys in name order."""
        await self._audit.record(trail.event(Action.ADMIN_READ, self._clock.now(), detail="api_key list"))
        return await self._keys.list_api_keys()

    async def disable(self, name: str, trail: Trail) -> None:
        """End a key for good; one that is disabled already stays so.

        Raises:
            NotFoundError: no such key.
            InvalidRequestError: nobody could act as admin any more.
            StoreUnavailableError: nothing was changed.
        """
        trail.object_kind, trail.object_name = KIND, name
        async with self._changing:
            await settled(lambda: self._disable_once(name, trail))

    async def _disable_once(self, name: str, trail: Trail) -> None:
        """Decide on what is stored now; CatalogMovedError when another process changed something meanwhile."""
        catalog = await self._catalogs.load_catalog()
        before = await self._keys.list_api_keys()
        key = next((key for key in before if key.name == name), None)
        if key is None:
            raise NotFoundError("there is no such key", metadata={"kind": KIND, "name": name})
        if key.disabled:
            return
        ended = replace(key, disabled=True)
        self._protect_last_admin(catalog, before, [ended if other is key else other for other in before])
        event = trail.event(Action.KEY_DISABLE, self._clock.now(), detail=f"id {key.id}")
        await self._keys.set_api_key(ended, event, expected_version=catalog.version)

    def _protect_last_admin(self, catalog: Catalog, before: Sequence[ApiKey], after: Sequence[ApiKey]) -> None:
        now = self._clock.now()
        had = admins.live_admins(catalog, before, now, trusts_spiffe=self._trusts_spiffe)
        has = admins.live_admins(catalog, after, now, trusts_spiffe=self._trusts_spiffe)
        if admins.is_last_lost(had, has, after):
            raise InvalidRequestError(admins.NEEDED, fields={"name": "the key of the last admin"})
