"""WatchRevocations: telling a caller which of the access tokens it may have ended before their time.

where did the caller leave off? ▸ what ended since, read once for all who left off there ▸ what of it may the caller
know of? ▸ wait for the store to move ▸ again

A cursor is the store's version and nothing else. Whoever left off too long ago, or never was here, drops all.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from broker.core.errors import BrokerError, InvalidRequestError
from broker.core.identity import CallerId
from broker.core.policy import may_hold, roles_of
from broker.flows.catalog_view import CatalogView
from broker.ports import AccessTokenStore, Clock, EndedToken

TICK: Final = 0.25
"""Seconds in which whoever reads the stream gets a turn, to look whether it may go on."""
AT_LEAST_EVERY: Final = 30.0
"""Seconds after which a cursor is told though nothing happened."""
MOST: Final = 1_000
"""Tokens told one by one; where more ended at once, all are dropped."""

_CURSOR: Final = re.compile("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Revocations:
    """What happened up to a cursor."""

    cursor: str
    fingerprints: tuple[str, ...] = ()
    drop_all: bool = False


class WatchRevocations:
    """The flow; one per process."""

    def __init__(self, *, view: CatalogView, access_tokens: AccessTokenStore, clock: Clock) -> None:
        self._view = view
        self._access_tokens = access_tokens
        self._clock = clock
        self._reading: dict[tuple[int, int], asyncio.Task[Sequence[EndedToken] | None]] = {}

    async def __call__(self, caller: CallerId, cursor: str) -> AsyncGenerator[Revocations | None, None]:
        """Yield what happened, at once and whenever something did; None where nothing has to be told.

        Raises:
            InvalidRequestError: the cursor is none of ours.
            StoreUnavailableError: what happened cannot be read.
        """
        if cursor and not _CURSOR.fullmatch(cursor):
            problem = "must be the cursor of a response, or absent"
            raise InvalidRequestError(f"cursor: {problem}", fields={"cursor": problem})
        since = int(cursor) if cursor else -1
        told_at: float | None = None
        while True:
            version = self._view.version
            now = self._clock.boottime()
            if since == version and told_at is not None and now - told_at < AT_LEAST_EVERY:
                yield None
            else:
                told = await self._happened(caller, since, version)
                if told.fingerprints or told.drop_all or told_at is None or now - told_at >= AT_LEAST_EVERY:
                    told_at = now
                    yield told
                since = version
            await self._view.wait_beyond(since, TICK)

    async def _happened(self, caller: CallerId, since: int, version: int) -> Revocations:
        ended = None if not 0 <= since <= version else await self._ended(since, version)
        if ended is None:
            return Revocations(str(version), drop_all=True)
        known = [
            token.fingerprint for token in ended if token.version <= version and await self._may_know(caller, token)
        ]
        return Revocations(str(version), tuple(dict.fromkeys(known)))  # frozen again and again, each is told once

    async def _ended(self, since: int, version: int) -> Sequence[EndedToken] | None:
        """Read what ended, once for all who ask for the same."""
        if since == version:
            return ()
        key = (since, version)
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._access_tokens.ended_since(since, MOST))
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        try:
            return await asyncio.shield(reading)
        except BrokerError as error:
            raise error.again() from None

    async def _may_know(self, caller: CallerId, token: EndedToken) -> bool:
        catalog = self._view.catalog
        if roles_of(catalog.roles, caller):
            return False
        grant = await self._view.grant(token.grant)
        client = None if grant is None else catalog.clients.get(grant.client)
        provider = None if client is None else catalog.providers.get(client.provider)
        return may_hold(catalog.policies, caller, token.grant, frozenset(token.granted), provider)
