"""Limits and the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.core.audit import AuditEvent
from broker.core.gcra import Charge, Decision
from broker.ports.secrets import PendingEvent


class Buckets(Protocol):
    """Rate limit buckets, kept as `core/gcra.py` says; the charges of one request are spent all or nothing."""

    async def spend(self, charges: Sequence[Charge]) -> Decision:
        """Spend every charge, or none, within a second; never raises.

        Buckets shared with other replicas admit together what one would; without them an implementer keeps within a
        bound that it states.
        """


class AuditSink(Protocol):
    """Where audit events become durable."""

    async def record(self, event: AuditEvent) -> int:
        """Return once the event is durable, with `control.version` as of that commit.

        Raises:
            AuditUnavailableError: within one second, naming the cause; the event may or may not be stored.
        """

    def offer(self, event: AuditEvent) -> bool:
        """Queue an event nobody waits for; False when the queue's share for such events is full: count it then."""


class OutboxSink(Protocol):
    """Where events of the outbox become durable audit events."""

    async def deliver(self, pending: Sequence[PendingEvent]) -> None:
        """Return once each event is durable, exactly once however often and by however many it is delivered.

        Raises:
            AuditUnavailableError: within one second; some may be stored: deliver all again.
        """


class AuditLog(Protocol):
    """The audit events as operators read them."""

    async def newest(self, limit: int) -> Sequence[AuditEvent]:
        """Return at most `limit` durable events, newest first."""
