"""The first admin: somebody has to be let in before anybody can be given a role.

Nobody can act as admin ▸ a key from its file, or a new one on SQLite and loopback ▸ stored, for 24 hours
▸ the role admin bound to it. It opens nothing any more once another admin is there; authentication sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.core import admins
from broker.core.api_keys import maced_api_key, parse_api_key_id
from broker.core.audit import Action
from broker.core.identity import Role
from broker.core.models import ApiKey, Catalog, Kind, Origin, RoleBinding
from broker.core.secret import Secret
from broker.flows.api_keys import RESERVED
from broker.flows.trail import Trail
from broker.ports import CatalogStore, Clock, KeyStore, MacKeys, ObjectChange

BOOTSTRAP_SECONDS: Final = 24 * 3600
"""Longest life of a first admin's key."""


class BootstrapError(Exception):
    """Nobody could administer the broker; the text tells the operator what to do."""


@dataclass(frozen=True, slots=True)
class BootstrapKey:
    """The first admin's key as it was read or made, and where it stands, for messages."""

    secret: Secret
    place: str


class Bootstrap:
    """Make sure that somebody can act as admin."""

    def __init__(  # noqa: PLR0913 - each is a port or a fact of the settings
        self,
        *,
        catalogs: CatalogStore,
        keys: KeyStore,
        macs: MacKeys,
        clock: Clock,
        first_key: Callable[[], BootstrapKey] | None,
        trusts_spiffe: bool,
        new_id: Callable[[], str],
    ) -> None:
        """Wire the flow; `first_key` is asked only when there is no admin, None where no key may appear by itself."""
        self._catalogs = catalogs
        self._keys = keys
        self._macs = macs
        self._clock = clock
        self._first_key = first_key
        self._trusts_spiffe = trusts_spiffe
        self._new_id = new_id
        self._retired = False

    async def __call__(self, trail: Trail) -> bool:
        """Return whether a first admin was made now.

        Raises:
            BootstrapError: there is no admin and no key to make one from.
            StoreUnavailableError: the store is away.
        """
        catalog = await self._catalogs.load_catalog()
        keys = await self._keys.list_api_keys()
        if admins.live_admins(catalog, keys, self._clock.now(), trusts_spiffe=self._trusts_spiffe):
            return False
        if self._first_key is None:
            raise BootstrapError(
                "nobody can act as admin yet: make a key with `aries-broker keys new-bootstrap FILE` and name the file "
                "in BROKER_BOOTSTRAP_ADMIN_KEY_FILE"
            )
        first = self._first_key()
        key = await self._stored(first, keys, trail)
        await self._bind(key, catalog, trail)
        return True

    async def retire(self, trail: Trail) -> None:
        """End the first admin's key for good once somebody else can act as admin.

        Authentication refuses it from that moment on anyway; this makes it last, whatever is deleted later.

        Raises:
            StoreUnavailableError: it is tried again with the next call.
        """
        if self._retired:
            return
        catalog = await self._catalogs.load_catalog()
        keys = await self._keys.list_api_keys()
        first = [key for key in keys if key.bootstrap_until is not None and not key.disabled]
        names = {f"key:{key.name}" for key in first}
        now = self._clock.now()
        if not admins.live_admins(catalog, keys, now, trusts_spiffe=self._trusts_spiffe) - names:
            return
        for key in first:
            event = trail.event(
                Action.KEY_DISABLE,
                now,
                object_kind="api_key",
                object_name=key.name,
                detail=f"id {key.id}, another admin is there",
            )
            await self._keys.set_api_key(replace(key, disabled=True), event)
        self._retired = True

    async def _stored(self, first: BootstrapKey, keys: Sequence[ApiKey], trail: Trail) -> ApiKey:
        """Return the key's row; a key that was a first admin's before does not become one again."""
        key_id = parse_api_key_id(first.secret)
        if key_id is None:
            raise BootstrapError(
                f"{first.place} holds no API key; make one with `aries-broker keys new-bootstrap FILE`"
            )
        now = self._clock.now()
        known = next((key for key in keys if key.id == key_id), None)
        if known is not None:
            if known.bootstrap_until is not None and admins.opens(known, now):
                return known
            raise BootstrapError(
                f"nobody can act as admin, and the key in {first.place} is over: remove the file and make a new one "
                "with `aries-broker keys new-bootstrap FILE`"
            )
        name = _free_name({key.name for key in keys})
        until = int(now) + BOOTSTRAP_SECONDS
        mac_key_id, mac = self._macs.mac(maced_api_key(first.secret, name, until))
        key = ApiKey(id=key_id, name=name, mac=mac, mac_key_id=mac_key_id, bootstrap_until=until)
        event = trail.event(
            Action.KEY_CREATE, now, object_kind="api_key", object_name=name, detail=f"id {key_id}, first admin"
        )
        await self._keys.add_api_key(key, event)
        return key

    async def _bind(self, key: ApiKey, catalog: Catalog, trail: Trail) -> None:
        bound = next((item for item in catalog.roles if item.name == RESERVED), None)
        binding = RoleBinding(self._new_id(), RESERVED, Origin.RPC, Role.ADMIN, (f"key:{key.name}",))
        if bound is not None:
            binding = replace(binding, id=bound.id)
        event = trail.event(
            Action.CONFIG_PUT,
            self._clock.now(),
            object_kind=Kind.ROLE.value,
            object_name=RESERVED,
            detail="first admin",
        )
        await self._catalogs.write_objects([ObjectChange(Kind.ROLE, RESERVED, binding)], revision=None, event=event)


def _free_name(taken: set[str]) -> str:
    """Return the name of the next first key: names are never used twice."""
    name, number = RESERVED, 1
    while name in taken:
        number += 1
        name = f"{RESERVED}-{number}"
    return name
