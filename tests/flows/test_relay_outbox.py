from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from broker.core.audit import Action, AuditEvent
from broker.core.errors import AuditUnavailableError
from broker.flows.relay_outbox import RelayOutbox
from broker.ports import PendingEvent

TIME = datetime(2026, 1, 2, tzinfo=UTC)


class Pending:
    """The port Outbox over a dict."""

    def __init__(self, count: int) -> None:
        self.events = {f"o{number}": AuditEvent(TIME, Action.CONFIG_PUT, detail="") for number in range(count)}

    async def undelivered(self, limit: int) -> Sequence[PendingEvent]:
        return [PendingEvent(key, event) for key, event in self.events.items()][:limit]

    async def mark_delivered(self, ids: Sequence[str]) -> None:
        for key in ids:
            del self.events[key]


class Stored:
    """The port OutboxSink over a dict; can be away."""

    def __init__(self) -> None:
        self.events: dict[str, AuditEvent] = {}
        self.away = False

    async def deliver(self, pending: Sequence[PendingEvent]) -> None:
        if self.away:
            raise AuditUnavailableError("away", cause="gone")
        for item in pending:
            self.events.setdefault(item.id, item.event)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
async def test_everything_pending_is_copied(count: int) -> None:
    """All events go to the audit log, in batches, and are marked; a second run has nothing to do."""
    outbox, sink = Pending(count), Stored()
    relay = RelayOutbox(outbox, sink)
    assert (count, 0) == (await relay(), await relay())
    assert (count, 0) == (len(sink.events), len(outbox.events))


async def test_nothing_is_marked_before_it_is_durable() -> None:
    """While the audit log is away, events stay in the outbox; the next run copies them."""
    outbox, sink = Pending(3), Stored()
    sink.away = True
    relay = RelayOutbox(outbox, sink)
    with pytest.raises(AuditUnavailableError):
        await relay()
    assert 3 == len(outbox.events)
    sink.away = False
    assert 3 == await relay()


@pytest.mark.parametrize(("before", "after"), [("", "recovered"), ("first secret", "first secret; recovered")])
async def test_what_a_start_finds_is_marked_recovered(before: str, after: str) -> None:
    """An event left over by a process that is gone says so in its detail."""
    outbox, sink = Pending(0), Stored()
    outbox.events["o1"] = AuditEvent(TIME, Action.SECRET_ADD, detail=before)
    await RelayOutbox(outbox, sink)(recovered=True)
    assert after == sink.events["o1"].detail
