from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from broker.adapters.audit.sink import TableAuditSink
from broker.adapters.audit.table import AuditRow, AuditTableError
from broker.core.audit import Action, from_json
from broker.core.errors import AuditUnavailableError
from tests.adapters.audit.support import Gated, event
from tests.support.waiting import ENOUGH


async def entered(table: Gated) -> None:
    """Wait until the writer is inside a write."""
    assert await asyncio.to_thread(table.entered.wait, 5)


def numbers(table: Gated) -> list[int]:
    """Return the numbers of the events stored, in their order."""
    return [int(from_json(row.event).request_id.removeprefix("r")) for row in table.rows]


async def causes(tasks: list[asyncio.Task[int]]) -> list[str]:
    """Return the cause of each task's failure; the empty text where it did not fail."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [result.cause if isinstance(result, AuditUnavailableError) else "" for result in results]


async def blocked_sink(table: Gated, capacity: int = 8) -> tuple[TableAuditSink, asyncio.Task[int]]:
    """Return a sink whose writer is busy with one event."""
    sink = TableAuditSink(table, capacity=capacity)
    first = asyncio.create_task(sink.record(event(0)))
    await entered(table)
    return sink, first


async def test_the_queue_keeps_a_share_for_tokens() -> None:
    """Offered events fill a quarter of the queue, with denials three quarters, token replies all of it."""
    table = Gated()
    sink, first = await blocked_sink(table)
    offers = [sink.offer(event(1, Action.RPC_DENY)) for _ in range(4)]
    denials = [asyncio.create_task(sink.record(event(2, Action.TOKEN_DENY))) for _ in range(6)]
    tokens = [asyncio.create_task(sink.record(event(3))) for _ in range(4)]
    await asyncio.sleep(0)
    table.gate.set()
    assert [True, True, False, False] == offers
    assert ["", "", "", "", "full", "full"] == await causes(denials)
    assert ["", "", "full", "full"] == await causes(tokens)
    assert 1 == await first
    await sink.aclose()
    assert [0, 1, 1, 2, 2, 2, 2, 3, 3] == numbers(table)


async def test_a_caller_that_hangs_up_takes_nobody_with_it() -> None:
    """Cancelling one waiter of a batch leaves the others, and its event is stored all the same."""
    table = Gated()
    sink, first = await blocked_sink(table)
    others = [asyncio.create_task(sink.record(event(number))) for number in (1, 2)]
    await asyncio.sleep(0)
    others[0].cancel()
    table.gate.set()
    assert [1, 1] == [await first, await others[1]]
    assert others[0].cancelled()
    await sink.aclose()
    assert [1, 2, 3] == [row.seq for row in table.rows]


async def test_a_failed_write_fails_all_who_wait_with_its_cause() -> None:
    """The block's waiters and those queued behind it fail; the block and what nobody waits for are stored later."""
    table = Gated("disk_full")
    sink, first = await blocked_sink(table)
    queued = [asyncio.create_task(sink.record(event(number))) for number in (1, 2)]
    await asyncio.sleep(0)
    assert True is sink.offer(event(7))
    table.gate.set()
    assert ["disk_full"] * 3 == await causes([first, *queued])
    table.cause = ""
    await sink.aclose()
    assert ([0, 7], [1, 2]) == (numbers(table), [row.seq for row in table.rows])


async def test_a_hanging_write_fails_all_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a write hangs, its waiters and later ones get cause timeout; those events that waited are not stored."""
    monkeypatch.setattr("broker.adapters.audit.batch.DEADLINE_SECONDS", 0.05)
    table = Gated()
    sink, first = await blocked_sink(table)
    queued = [asyncio.create_task(sink.record(event(number))) for number in (1, 2)]
    await asyncio.sleep(0)
    sink.offer(event(7))
    assert ["timeout"] * 3 == await causes([first, *queued])
    table.gate.set()
    await sink.aclose()
    assert [0, 7] == numbers(table)


async def test_closing_writes_what_is_queued() -> None:
    """Every waiter at shutdown gets its answer; afterwards nothing is taken any more."""
    table = Gated()
    sink, first = await blocked_sink(table, capacity=100)
    queued = [asyncio.create_task(sink.record(event(number))) for number in range(1, 40)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(sink.aclose())
    await asyncio.sleep(0)
    table.gate.set()
    await closing
    assert [""] * 40 == await causes([first, *queued])
    assert 40 == len(table.rows)
    assert ["closed"] == await causes([asyncio.create_task(sink.record(event()))])
    assert False is sink.offer(event())


@pytest.mark.parametrize("cause", ["", "gone"])
async def test_closing_ends_though_the_database_does_not_answer(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that hangs or is gone does not keep the broker from ending, and no waiter is left behind."""
    monkeypatch.setattr("broker.adapters.audit.sink.CLOSE_SECONDS", 0.05)
    monkeypatch.setattr("broker.adapters.audit.batch.DEADLINE_SECONDS", 0.1)
    table = Gated(cause)
    sink, first = await blocked_sink(table)
    queued = asyncio.create_task(sink.record(event(1)))
    await asyncio.sleep(0)
    if cause:
        table.gate.set()
    await asyncio.wait_for(sink.aclose(), ENOUGH)
    assert all(found in {"closed", "timeout", "gone"} for found in await causes([first, queued]))
    table.gate.set()


class FirstBlockLost(Gated):
    """Nobody knows whether the first block was written; later ones are."""

    def write(self, rows: Sequence[AuditRow]) -> int:
        if from_json(rows[0].event) == event(0):
            self.entered.set()
            self.gate.wait(10)
            raise AuditTableError("gone")
        return super().write(rows)


async def test_numbers_of_a_block_given_up_are_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of unknown fate ends the chain: another under its numbers could be lost in silence."""
    monkeypatch.setattr("broker.adapters.audit.sink.CLOSE_SECONDS", 0.05)
    table = FirstBlockLost()
    sink, first = await blocked_sink(table)
    assert True is sink.offer(event(7))
    closing = asyncio.create_task(sink.aclose())
    await asyncio.sleep(0)
    table.gate.set()
    await closing
    assert ["gone"] == await causes([first])
    await sink._ended.wait()
    assert [] == table.rows


async def test_a_bug_in_the_writer_closes_the_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the writer ends by a bug of ours, nothing is recorded any more, so nothing is handed out."""
    monkeypatch.setattr("broker.adapters.audit.batch.DEADLINE_SECONDS", 0.05)
    monkeypatch.setattr("threading.excepthook", lambda _arguments: None)
    table = Gated()
    table.write = None  # type: ignore[assignment, method-assign]
    sink = TableAuditSink(table)
    assert ["timeout"] == await causes([asyncio.create_task(sink.record(event()))])
    await sink._ended.wait()
    assert ["closed"] == await causes([asyncio.create_task(sink.record(event()))])
    await sink.aclose()
