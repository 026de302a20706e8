"""Waiting for tokens that other replicas are getting: one statement for all that wait here, none held meanwhile."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

from broker.core.errors import BrokerError
from broker.core.models import AccessTokenKey
from broker.ports import AccessTokenStore, Clock, StoredAccessToken

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.2


class Lookout:
    """Polls the store for all awaited keys at once, 20 ms apart growing to 200 ms with jitter, one poll in flight."""

    def __init__(self, access_tokens: AccessTokenStore, clock: Clock, random: Random) -> None:
        self._access_tokens = access_tokens
        self._clock = clock
        self._random = random
        self._awaited: dict[AccessTokenKey, asyncio.Future[tuple[StoredAccessToken, float] | None]] = {}
        self._missed: frozenset[AccessTokenKey] = frozenset()
        self._polling: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE

    async def look(self, key: AccessTokenKey) -> tuple[StoredAccessToken, float] | None:
        """Return what the next poll finds for the key, with the CLOCK_BOOTTIME second before it, or None.

        Raises:
            StoreUnavailableError: the poll failed.
        """
        future = self._awaited.get(key)
        if future is None:
            future = self._awaited[key] = asyncio.get_running_loop().create_future()
            if key not in self._missed:
                self._pause = FIRST_PAUSE
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll_while_awaited())
        return await asyncio.shield(future)

    async def _poll_while_awaited(self) -> None:
        while self._awaited:  # keys that came while a poll was under way are asked for by the next
            await self._poll()

    async def _poll(self) -> None:
        await asyncio.sleep(self._pause * self._random.uniform(0.8, 1.2))
        self._pause = min(LONGEST_PAUSE, self._pause * 1.5)
        awaited, self._awaited = self._awaited, {}
        read_at = self._clock.boottime()
        try:
            found = await self._access_tokens.find_access_tokens(list(awaited))
        except Exception as error:  # noqa: BLE001 - a bug as well: who waits has to be told
            for future in awaited.values():
                future.set_exception(error.again() if isinstance(error, BrokerError) else error)
                future.exception()  # retrieved: a waiter that hung up leaves no warning behind
            return
        self._missed = frozenset(awaited).difference(found)
        for key, future in awaited.items():
            stored = found.get(key)
            future.set_result(None if stored is None else (stored, read_at))
