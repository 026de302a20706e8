"""Denials: recorded, counted, never waited for longer than they may be, never turned into anything else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.core.audit import Action
from broker.core.errors import AuditUnavailableError
from broker.flows import record_denial
from broker.flows.record_denial import RecordDenial
from broker.flows.trail import Trail
from tests.rpc.kit import Clock, Counters, Sink
from tests.support.waiting import ENOUGH, until


class Parts:
    """The flow and what it stands on."""

    def __init__(self) -> None:
        self.sink, self.clock, self.telemetry = Sink(), Clock(), Counters()
        self.flow = RecordDenial(self.sink, self.clock, self.telemetry)

    async def deny(self, actor: str = "", reason: str = "POLICY_DENIED") -> None:
        """Deny one call."""
        trail = Trail("/s/M", "ipv4:10.0.0.1:5", "r-1", actor=actor)
        await self.flow(trail, Action.RPC_DENY, reason, address="10.0.0.1", detail="why")


async def test_a_known_callers_denial_is_durable_when_the_flow_returns() -> None:
    """With reason and cause."""
    parts = Parts()
    await parts.deny("key:orders")
    assert [("key:orders", "POLICY_DENIED", "why")] == [
        (event.actor, event.reason, event.detail) for event in parts.sink.durable
    ]


async def test_nobody_is_never_waited_for() -> None:
    """Even while the sink hangs, the denial of an unknown caller is offered at once."""
    parts = Parts()
    parts.sink.gate = asyncio.Event().wait
    await asyncio.wait_for(parts.deny(), ENOUGH)
    assert 1 == len(parts.sink.events)


async def test_a_caller_that_hangs_up_loses_no_event() -> None:
    """The event's commit is not cancelled with the call."""
    parts = Parts()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        begun.set()
        await go_on.wait()

    parts.sink.gate = gate
    call = asyncio.create_task(parts.deny("key:orders"))
    await begun.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    go_on.set()
    await parts.flow.close()
    assert 1 == len(parts.sink.durable)


@pytest.mark.parametrize("broken", [AuditUnavailableError("away"), asyncio.CancelledError()])
async def test_an_event_that_was_not_stored_is_counted(broken: BaseException) -> None:
    """The denial stands; the metric says that its event is missing."""
    parts = Parts()
    parts.sink.broken = broken
    await parts.deny("key:orders")
    await asyncio.sleep(0)
    assert 1 == parts.telemetry.dropped


async def test_a_bug_of_the_sink_is_heard() -> None:
    """It reaches the loop's handler, and still not the caller."""
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
    parts = Parts()
    parts.sink.broken = KeyError("bug")
    await parts.deny("key:orders")
    await asyncio.sleep(0)
    assert [KeyError] == [type(error) for error in heard]
    assert 1 == parts.telemetry.dropped


async def test_counts_are_swept_as_their_minutes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that stops calling is counted all the same."""
    monkeypatch.setattr(record_denial, "SWEEP_SECONDS", 0.001)
    parts = Parts()
    for _ in range(12):
        await parts.deny()
    parts.clock.ahead = 61
    sweeping = asyncio.create_task(parts.flow.sweep())
    await until(lambda: len(parts.sink.events) == 11)
    sweeping.cancel()
    assert 2 == parts.sink.events[-1].count


@pytest.mark.parametrize(("actor", "full"), [("", 10), ("key:orders", 60)])
async def test_calls_that_ended_early_are_bounded_too(actor: str, full: int) -> None:
    """Who cancels in a loop fills no store either."""
    parts = Parts()
    for _ in range(full + 5):
        trail = Trail("/s/M", "ipv4:10.0.0.1:5", "r-1", actor=actor)
        parts.flow.ended_early(trail, Action.RPC_DENY, "CANCELLED", address="10.0.0.1")
    await parts.flow.close()
    assert [1] * full + [5] == [event.count for event in parts.sink.events]
