"""Copying the outbox to the audit log: what was changed is recorded, whoever made it and whoever died since."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from broker.ports import Outbox, OutboxSink, PendingEvent

BATCH: Final = 100
RECOVERED: Final = "recovered"


class RelayOutbox:
    """The flow; run at start, then every now and then. Any number of replicas may run it at once."""

    def __init__(self, outbox: Outbox, sink: OutboxSink) -> None:
        """Copy from `outbox` to `sink`."""
        self._outbox = outbox
        self._sink = sink

    async def __call__(self, *, recovered: bool = False) -> int:
        """Copy all that is pending; return how many events were handed on.

        Args:
            recovered: say in each event that it was found at a start, left over by a process that is gone.

        Raises:
            StoreUnavailableError, AuditUnavailableError: run it again later; nothing is lost and nothing copied twice.
        """
        copied = 0
        while pending := await self._outbox.undelivered(BATCH):
            await self._sink.deliver([_marked(item) for item in pending] if recovered else pending)
            await self._outbox.mark_delivered([item.id for item in pending])
            copied += len(pending)
            if len(pending) < BATCH:
                break
        return copied


def _marked(item: PendingEvent) -> PendingEvent:
    detail = f"{item.event.detail}; {RECOVERED}" if item.event.detail else RECOVERED
    return replace(item, event=replace(item.event, detail=detail).bounded())
