"""Noticing that the store was rolled back: a restored backup, or a failover that lost commits.

each send and each landing is noted in another place, some milliseconds behind ▸ at the start, and whenever the store
is not after where it was: compare every grant with what was noted ▸ hold those of which more was noted

A grant that is held so may have a refresh token that was spent since; an operator decides what becomes of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from broker.core.audit import Action
from broker.core.errors import BrokerError
from broker.core.evidence import Landmark, Position
from broker.flows.trail import Trail
from broker.ports import Clock, Evidence, EvidenceError, RedeemTelemetry, RollbackStore

AFTER: Final = 0.02
"""Seconds in which what is noted together is collected."""
EVERY: Final = 5.0
"""Seconds between two looks at the store's position."""


class WatchForRollback:
    """Keeps the evidence, and compares."""

    def __init__(
        self, *, store: RollbackStore, evidence: Evidence, clock: Clock, telemetry: RedeemTelemetry, owner: str
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._clock = clock
        self._telemetry = telemetry
        self._owner = owner
        self._pending: dict[str, Landmark] = {}
        self._position: Position | None = evidence.position()
        self._woken = asyncio.Event()

    def note(self, grant_id: str, landmark: Landmark) -> None:
        """Note how far a grant has come, once that is committed."""
        self._pending[grant_id] = landmark.joined(self._pending.get(grant_id, landmark))
        self._woken.set()

    async def compare(self) -> int:
        """Hold every grant of which there is evidence of more than the store knows; return how many.

        Raises:
            StoreUnavailableError: the store is away.
        """
        noted = self._evidence.landmarks()
        known = await self._store.known_landmarks(list(noted))
        found = 0
        for grant_id, landmark in known.items():
            if landmark.is_behind(noted[grant_id]):
                found += await self._hold(grant_id, noted[grant_id])
        if found:
            self._telemetry.rolled_back(found)
        return found

    async def for_ever(self) -> None:
        """Note and look until cancelled; what cannot be noted or asked now is tried again."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._woken.wait()
                    await asyncio.sleep(AFTER)
            self._woken.clear()
            await self.look()

    async def look(self) -> None:
        """Compare where the store is not after where it was, then note what is pending."""
        with suppress(BrokerError):
            position = await self._store.position()
            if position is not None and self._position is not None and not position.is_after(self._position):
                await self.compare()
            await self._write(position)
            self._position = position or self._position

    async def _write(self, position: Position | None) -> None:
        pending, self._pending = self._pending, {}
        if not pending and position == self._position:
            return
        try:
            await self._evidence.note(pending, position)
        except EvidenceError:
            self._telemetry.evidence_failed()
            for grant_id, landmark in pending.items():
                self._pending[grant_id] = landmark.joined(self._pending.get(grant_id, landmark))

    async def _hold(self, grant_id: str, evidence: Landmark) -> bool:
        now = self._clock.now()
        trail = Trail("rollback", "", f"{self._owner}/rollback", actor=f"broker:{self._owner}")
        event = trail.event(Action.GRANT_SUSPECT, now, object_kind="grant", object_name=grant_id)
        return await self._store.hold_suspect(grant_id, evidence, datetime.fromtimestamp(now, UTC), event)
