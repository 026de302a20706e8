"""What is configured now, read for a change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from broker.core.config_references import Staying
from broker.core.config_values import Configured, catalog_objects, catalog_of, kind_of
from broker.core.errors import StoreUnavailableError
from broker.core.models import Catalog, Grant, Kind, Origin
from broker.ports import CatalogMovedError, CatalogStore, GrantStore, ObjectChange

PAGE: Final = 1000
"""Grants read at a time."""
MAX_ROUNDS: Final = 10
"""How often a change is decided anew because the version moved."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """The catalogue, and those grants that a change may touch or that may need what it removes."""

    catalog: Catalog
    grants: tuple[Grant, ...]

    def objects(self) -> tuple[Configured, ...]:
        """Return everything read."""
        return (*catalog_objects(self.catalog), *self.grants)

    def of_origin(self, origin: Origin) -> tuple[Configured, ...]:
        """Return the objects of one origin."""
        return tuple(value for value in self.objects() if value.origin is origin)

    def find(self, kind: Kind, name: str) -> Configured | None:
        """Return one object, or None."""
        return next((value for value in self.objects() if (kind_of(value), value.name) == (kind, name)), None)

    def staying(self, leaves: Callable[[Configured], bool]) -> Staying:
        """Return the objects but those a change takes away or replaces."""
        values = tuple(value for value in self.objects() if not leaves(value))
        return Staying(catalog_of(values), {value.name: value for value in values if isinstance(value, Grant)})


async def read_for_file(catalogs: CatalogStore, grants: GrantStore, names: Collection[str]) -> StoredConfig:
    """Read what an apply needs: the grants of the file, those of the given names, those on a client of the file."""
    catalog = await catalogs.load_catalog()
    clients = {client.name for client in catalog.clients.values() if client.origin is Origin.FILE}
    wanted = set(names)
    found = await _grants(
        grants, lambda grant: grant.origin is Origin.FILE or grant.name in wanted or grant.client in clients
    )
    return StoredConfig(catalog, found)


async def read_for_object(catalogs: CatalogStore, grants: GrantStore, kind: Kind, name: str) -> StoredConfig:
    """Read what the change of one object needs: for a grant itself, for a client its grants."""
    catalog = await catalogs.load_catalog()
    if kind is Kind.GRANT:
        grant = await grants.find_grant(name)
        return StoredConfig(catalog, () if grant is None else (grant,))
    if kind is Kind.CLIENT:
        return StoredConfig(catalog, await grants_of(grants, {name}))
    return StoredConfig(catalog, ())


async def grants_of(grants: GrantStore, clients: Collection[str]) -> tuple[Grant, ...]:
    """Return the grants of some clients, without their tokens."""
    return await _grants(grants, lambda grant: grant.client in clients)


async def _grants(store: GrantStore, wanted: Callable[[Grant], bool]) -> tuple[Grant, ...]:
    found: list[Grant] = []
    after = ""
    while page := await store.list_grants(after, PAGE):
        found += filter(wanted, page)
        after = page[-1].name
    return tuple(found)


async def settled(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what a change returns that is decided anew whenever another process changed something meanwhile.

    Raises:
        StoreUnavailableError: that happened MAX_ROUNDS times.
    """
    for _ in range(MAX_ROUNDS):
        with suppress(CatalogMovedError):
            return await attempt()
    raise StoreUnavailableError("the configuration keeps changing; nothing was changed, try again", cause="moved")


def put(value: Configured) -> ObjectChange:
    """Return the write that creates or replaces an object."""
    return ObjectChange(kind_of(value), value.name, value)


def remove(value: Configured) -> ObjectChange:
    """Return the write that removes an object."""
    return ObjectChange(kind_of(value), value.name, None)
