"""The process's heartbeat: one write for all its leases, which also tells how long the store has been up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from broker.core.errors import StoreUnavailableError
from broker.core.models import AccessTokenKey
from broker.ports import Clock, ReplicaStore


class Heart:
    """Says regularly that this process lives, and keeps its leases."""

    def __init__(self, *, replicas: ReplicaStore, clock: Clock, owner: str, volume: str, every: float) -> None:
        """Prepare to beat.

        Args:
            replicas: where the beats go.
            clock: CLOCK_BOOTTIME.
            owner: this process.
            volume: the data volume its journal lies on.
            every: seconds between two beats.
        """
        self._replicas = replicas
        self._clock = clock
        self._owner = owner
        self._volume = volume
        self._every = every
        self._grants: dict[str, int] = {}
        self._keys: dict[AccessTokenKey, int] = {}
        self._up_since: float | None = None

    @contextmanager
    def keeping(self, grant_id: str, attempt: int) -> Iterator[None]:
        """Keep a grant's lease while the block runs."""
        self._grants[grant_id] = attempt
        try:
            yield
        finally:
            if self._grants.get(grant_id) == attempt:
                del self._grants[grant_id]

    @contextmanager
    def keeping_key(self, key: AccessTokenKey, attempt: int) -> Iterator[None]:
        """Keep the lease of a client_credentials key while the block runs."""
        self._keys[key] = attempt
        try:
            yield
        finally:
            if self._keys.get(key) == attempt:
                del self._keys[key]

    def up_for(self) -> float:
        """Return for how many seconds every beat has been taken."""
        return 0.0 if self._up_since is None else self._clock.boottime() - self._up_since

    async def beat(self) -> None:
        """Beat once.

        A store that is away costs the leases at worst, and a lease carries liveness only.

        Raises:
            StoreUnavailableError: the beat was not taken.
        """
        try:
            await self._replicas.beat(self._owner, self._volume, list(self._grants.items()), list(self._keys.items()))
        except StoreUnavailableError:
            self._up_since = None
            raise
        if self._up_since is None:
            self._up_since = self._clock.boottime()

    async def beat_for_ever(self) -> None:
        """Beat until cancelled; a beat that was not taken is followed by the next."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.beat()
            except StoreUnavailableError:
                continue
