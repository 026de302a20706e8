"""What this process knows of the configuration, and how it learns that it moved."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from broker.core.config_rules import NAME
from broker.core.errors import StoreUnavailableError
from broker.core.models import Catalog, Grant
from broker.ports import CatalogStore, GrantStore

POLL_SECONDS: Final = 0.25
"""How often an idle process reads the version."""

MAX_GRANTS: Final = 10_000
"""Grants kept in memory; the rest are read when asked for. As many names are known to be no grant's."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class CatalogView:
    """The catalogue as of `version`, and the grants read since.

    Every audit commit returns the store's version; `catch_up` is awaited when it is newer than ours, so that freezes
    and policy changes hold from their commit on every replica. The poll only serves processes nobody calls.

    Attributes:
        catalog: what is configured.
        reachable: the store answered the last poll.
    """

    def __init__(self, catalog_store: CatalogStore, grant_store: GrantStore) -> None:
        self._catalog_store = catalog_store
        self._grant_store = grant_store
        self._grants: OrderedDict[str, Grant] = OrderedDict()
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._matching: OrderedDict[tuple[tuple[str, ...], int], Sequence[str]] = OrderedDict()
        self._reading: dict[tuple[int, Hashable], asyncio.Task[Any]] = {}
        self._loading = asyncio.Lock()
        self._moved = asyncio.Event()
        self.catalog = Catalog()
        self.reachable = True

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

    async def wait_beyond(self, version: int, seconds: float) -> None:
        """Return once this view is newer than `version`, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.version <= version:
                    await self._moved.wait()

    async def grant(self, name: str) -> Grant | None:
        """Return the grant of this name as of the version at the call or later; what the redeem moves may be older.

        A name that is no grant's is remembered like one that is, so that the two cost the same.
        """
        known = self._grants.get(name)
        if known is not None:
            self._grants.move_to_end(name)
            return known
        if name in self._absent or not NAME.fullmatch(name):  # what no grant can be called is not worth remembering
            return None
        return await self._once(name, lambda: self._grant_store.find_grant(name), lambda found: self._keep(name, found))

    async def matching(self, patterns: tuple[str, ...], limit: int) -> Sequence[str]:
        """Return names of at most `limit` grants not revoked that match, as of the version at the call or later."""
        asked = (patterns, limit)
        known = self._matching.get(asked)
        if known is not None:
            return known
        return await self._once(
            asked,
            lambda: self._grant_store.match_grants(patterns, limit),
            lambda names: _put(self._matching, asked, names),
        )

    def _keep(self, name: str, found: Grant | None) -> None:
        if found is None:
            _put(self._absent, name, None)
        else:
            _put(self._grants, name, found)

    async def _once(self, asked: Hashable, read: Callable[[], Awaitable[V]], keep: Callable[[V], None]) -> V:
        """Read once for all who ask; whoever asks after the version moved starts another read."""
        key = (self.version, asked)
        reading: asyncio.Task[V] | None = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(key, read, keep))
            reading.add_done_callback(_hear)
        try:
            return await asyncio.shield(reading)
        except StoreUnavailableError as error:
            raise error.again() from None

    async def _read(self, key: tuple[int, Hashable], read: Callable[[], Awaitable[V]], keep: Callable[[V], None]) -> V:
        try:
            found = await read()
        finally:
            del self._reading[key]
        if key[0] == self.version:  # else it may be older than what the reload forgot
            keep(found)
        return found

    async def poll(self) -> None:
        """Follow the store's version until cancelled; a store that is away is tried again."""
        while True:
            try:
                await self.catch_up(await self._catalog_store.read_version())
            except StoreUnavailableError:  # requests find out by themselves; the next poll tries again
                self.reachable = False
            else:
                self.reachable = True
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
        self._absent.clear()
        self._matching.clear()
        self.catalog = catalog
        self._moved.set()
        self._moved = asyncio.Event()


def _hear(reading: asyncio.Task[Any]) -> None:
    """Retrieve a failure that nobody waits for any more: it was told to nobody, and is of no interest."""
    if not reading.cancelled():
        reading.exception()


def _put(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    if len(known) > MAX_GRANTS:
        known.popitem(last=False)
