"""A call was refused: it is recorded, without giving whoever is refused a way to fill the store or to wait on it."""

from __future__ import annotations

import asyncio
from typing import Final

from broker.core.audit import Action, AuditEvent
from broker.core.denials import DenialTally
from broker.core.errors import AuditUnavailableError, Reason
from broker.flows.trail import Trail
from broker.ports import AuditSink, Clock, Telemetry

UNKNOWN_IN_FULL: Final = 10
"""Denials per peer address and minute recorded in full while nobody is authenticated."""

CALLER_IN_FULL: Final = 60
"""Denials per known caller and minute recorded in full: one a second is to be read, more are to be counted."""

PATIENCE: Final = 1.0
"""Seconds a known caller's denial waits for its event; the sink promises to end within them."""

SWEEP_SECONDS: Final = 5.0

AUDIT_DOWN: Final = frozenset({Reason.AUDIT_UNAVAILABLE, Reason.STORE_UNAVAILABLE})
"""Denials that say themselves that the store is away: waiting for it a second time helps nobody."""


class RecordDenial:
    """The flow; one per process. It never raises for a broken sink: the denial stands whatever becomes of its event."""

    def __init__(self, audit: AuditSink, clock: Clock, telemetry: Telemetry) -> None:
        self._audit = audit
        self._clock = clock
        self._telemetry = telemetry
        self._unknown = DenialTally(UNKNOWN_IN_FULL)
        self._callers = DenialTally(CALLER_IN_FULL)
        self._recording: set[asyncio.Task[int]] = set()

    async def __call__(self, trail: Trail, action: Action, reason: str, *, address: str, detail: str = "") -> None:
        """Record that the call was refused for `reason`.

        Returns at once when nobody is authenticated; else when the event is durable or after one second.

        Args:
            trail: what is known of the call.
            action: the event's action.
            reason: the reason's name.
            address: the peer's address without its port.
            detail: the error's cause, in our own words.
        """
        event = trail.event(action, self._clock.now(), reason=reason, detail=detail)
        self._offer_counted()
        now = self._clock.boottime()
        if not trail.actor:
            if self._unknown.admit(address, event, now):
                self._offer(event)
        elif self._callers.admit(trail.actor, event, now):
            if reason in AUDIT_DOWN:
                self._offer(event)
            else:
                await self._record(event)

    def ended_early(self, trail: Trail, action: Action, reason: str, *, address: str) -> None:
        """Record a call whose caller went away or whose deadline passed; there is nobody left to wait."""
        event = trail.event(action, self._clock.now(), reason=reason)
        tally, origin = (self._callers, trail.actor) if trail.actor else (self._unknown, address)
        self._offer_counted()
        if tally.admit(origin, event, self._clock.boottime()):
            self._offer(event)

    async def sweep(self) -> None:
        """Record counts as their minutes end, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._offer_counted()

    async def close(self) -> None:
        """Offer what is still counted and wait, bounded, for events under way; before the sink is closed."""
        for tally in (self._unknown, self._callers):
            for event in tally.flush():
                self._offer(event)
        if self._recording:
            await asyncio.wait(self._recording, timeout=PATIENCE)

    async def _record(self, event: AuditEvent) -> None:
        task = asyncio.ensure_future(self._audit.record(event))
        self._recording.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait({task}, timeout=PATIENCE)

    def _done(self, task: asyncio.Task[int]) -> None:
        self._recording.discard(task)
        if task.cancelled():
            self._telemetry.denials_dropped(1)
            return
        error = task.exception()
        if error is None:
            return
        self._telemetry.denials_dropped(1)
        if not isinstance(error, AuditUnavailableError):  # a bug of the sink: let the loop's handler tell it
            raise error

    def _offer_counted(self) -> None:
        now = self._clock.boottime()
        for tally in (self._unknown, self._callers):
            for event in tally.due(now):
                self._offer(event)

    def _offer(self, event: AuditEvent) -> None:
        if not self._audit.offer(event):
            self._telemetry.denials_dropped(event.count)
