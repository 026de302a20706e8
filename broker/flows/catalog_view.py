"""What this process knows of the configuration, and how it learns that it moved."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from broker.core.errors import StoreUnavailableError
from broker.core.models import Catalog, Grant
from broker.ports import CatalogStore, GrantStore

POLL_SECONDS: Final = 0.25
"""How often an idle process reads the version."""

MAX_GRANTS: Final = 10_000
"""Grants kept in memory; the rest are read when asked for."""


class CatalogView:
    """The catalogue as of `version`, and the grants read since.

    Every audit commit returns the store's version; `catch_up` is awaited when it is newer than ours, so that freezes
    and policy changes hold from their commit on every replica. The poll only serves processes nobody calls.
    """

    def __init__(self, catalog_store: CatalogStore, grant_store: GrantStore) -> None:
        self._catalog_store = catalog_store
        self._grant_store = grant_store
        self._grants: OrderedDict[str, Grant] = OrderedDict()
        self._loading = asyncio.Lock()
        self.catalog = Catalog()

    @property
    def version(self) -> int:
        """The version everything here is at least as new as."""
        return self.catalog.version

    async def load(self) -> None:
        """Read everything once, at start.

        Raises:
            StoreUnavailableError: the store is away or its contents do not verify.
        """
        await self._reload()

    async def catch_up(self, version: int) -> None:
        """Return once this view is at least at `version`.

        Raises:
            StoreUnavailableError: it could not be read.
        """
        async with self._loading:
            if self.catalog.version < version:
                await self._reload()

    async def grant(self, name: str) -> Grant | None:
        """Return the grant of this name as of our version or later; what the redeem moves may be older."""
        known = self._grants.get(name)
        if known is not None:
            self._grants.move_to_end(name)
            return known
        read_at = self.catalog.version
        grant = await self._grant_store.find_grant(name)
        if grant is not None and read_at == self.catalog.version:
            self._grants[name] = grant
            if len(self._grants) > MAX_GRANTS:
                self._grants.popitem(last=False)
        return grant

    async def poll(self) -> None:
        """Follow the store's version until cancelled; a store that is away is tried again."""
        while True:
            with suppress(StoreUnavailableError):  # requests find out by themselves; the next poll tries again
                await self.catch_up(await self._catalog_store.read_version())
            await asyncio.sleep(POLL_SECONDS)

    async def _reload(self) -> None:
        before = self.catalog.version
        catalog = await self._catalog_store.load_catalog()
        changed = await self._catalog_store.changed_grants(before)
        if changed is None:
            self._grants.clear()
        else:
            moved = set(changed)
            for name in [name for name, grant in self._grants.items() if grant.id in moved]:
                del self._grants[name]
        self.catalog = catalog
