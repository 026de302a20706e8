"""The sink: events queue up for one writer thread, which commits all that wait as one block.

The loop's side puts events into the open batch; everyone in a batch waits for its one future. The writer takes the
batch, writes it as a block, and completes the future with one call into the loop. It commits at once, unless the last
block held two events or more: then it first lets the next batch fill for PACE_SECONDS, which costs a busy broker
nothing and saves it most commits.

A batch that is not durable DEADLINE_SECONDS after its first event fails all who wait for it, with the cause. A block
that failed may be in the database all the same: it keeps its sequence numbers and is tried again before anything else.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from broker.adapters.audit.batch import Batch, Entry
from broker.adapters.audit.table import (
    AuditRow,
    AuditTable,
    AuditTableError,
    DuplicateDeliveryError,
    microseconds,
)
from broker.core.audit import Action, AuditEvent, to_json
from broker.core.errors import AuditUnavailableError
from broker.ports import PendingEvent

PACE_SECONDS: Final = 0.002
RETRY_SECONDS: Final = 0.1
CLOSE_SECONDS: Final = 5.0
CAPACITY: Final = 4096
"""Most events of a batch; offered ones may fill a quarter of it, others three quarters, token replies all."""

_log = structlog.get_logger(__name__)


class TableAuditSink:
    """Ports `AuditSink` and `OutboxSink` over an audit table; made inside the running loop, ended by `aclose`."""

    def __init__(self, table: AuditTable, *, capacity: int = CAPACITY) -> None:
        """Start a new chain and its writer thread."""
        self.chain: Final = secrets.token_hex(16)
        self._table = table
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition(threading.Lock())
        self._open = Batch()
        self._closing = False
        self._close_by = math.inf
        self._cause = "timeout"
        self._failing = False
        self._next_seq = 1
        self._ended = asyncio.Event()
        # A hung database must not keep the process from ending, hence a daemon.
        threading.Thread(target=self._run, name="audit-writer", daemon=True).start()

    async def record(self, event: AuditEvent) -> int:
        """Return once the event is durable, with `control.version` as of that commit.

        Raises:
            AuditUnavailableError: within one second; cause timeout, disk_full, gone, full or closed.
        """
        share = self._capacity if event.action is Action.TOKEN_ISSUE else self._capacity * 3 // 4
        return await self._wait([Entry(event)], share)

    async def deliver(self, pending: Sequence[PendingEvent]) -> None:
        """Return once each event of the outbox is durable, exactly once however often it is delivered.

        Raises:
            AuditUnavailableError: as `record`.
        """
        if pending:
            await self._wait([Entry(item.event, item.id) for item in pending], self._capacity * 3 // 4)

    def offer(self, event: AuditEvent) -> bool:
        """Queue an event nobody waits for; False when the queue's share for such events is full, or it is closing."""
        with self._changed:
            if self._closing or self._open.offered >= self._capacity // 4:
                return False
            self._open.offer(Entry(event))
            self._changed.notify()
        return True

    async def aclose(self) -> None:
        """Write what is queued, bounded in time; then fail who still waits, with cause `closed`."""
        with self._changed:
            self._closing = True
            self._close_by = time.monotonic() + CLOSE_SECONDS
            self._changed.notify()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), CLOSE_SECONDS)
        self._expire(self._open, "closed")

    async def _wait(self, entries: Sequence[Entry], share: int) -> int:
        with self._changed:
            if self._closing:
                raise _unavailable("closed")
            batch = self._open
            if batch.size + len(entries) > share:
                raise _unavailable("full")
            done = batch.wait_for(entries, self._expire)
            self._changed.notify()
        # Shielded: one caller that hangs up must not cancel the future of all.
        outcome = await asyncio.shield(done)
        if isinstance(outcome, str):
            raise _unavailable(outcome)
        return outcome

    def _expire(self, batch: Batch, cause: str | None = None) -> None:
        """On the loop: fail who waits for a batch. Not taken yet, its waited events will not be written either."""
        with self._changed:
            if batch is self._open:
                self._open = batch.without_waited()
        batch.complete(cause or self._cause)

    # --- the writer thread ---

    def _run(self) -> None:
        last_size = 0
        try:
            while (batch := self._take(paced=last_size > 1)) is not None:
                last_size = batch.size
                if not self._write(batch):
                    break  # the block may be in the database: its numbers must not be given again
        finally:
            with self._changed:
                self._closing = True  # a bug ended the thread: nothing is recorded, so nothing is handed out
            self._table.close()
            self._on_loop(self._ended.set)

    def _take(self, *, paced: bool) -> Batch | None:
        """Wait for events and take the batch; None when closing and nothing is left."""
        while True:
            with self._changed:
                while not self._open.size and not self._closing:
                    self._changed.wait()
                if self._closing or not paced:
                    batch, self._open = self._open, Batch()
                    return batch if batch.size else None
            time.sleep(PACE_SECONDS)
            paced = False

    def _write(self, batch: Batch) -> bool:
        """Write one block, however long that takes; False when it is given up, because the broker closes.

        Whoever joins meanwhile and cannot be served is told the cause.
        """
        entries = batch.entries
        rows: list[AuditRow] | None = None
        failures = 0
        while True:
            try:
                if rows is None:
                    rows = self._number(entries)
                version = self._table.write(rows)
            except DuplicateDeliveryError:
                rows = None
                continue
            except AuditTableError as error:
                failures += 1
                if failures == 1 and error.cause == "gone":
                    continue  # a connection may have died while idle; the same rows over a new one are harmless
                self._failed(batch, error.cause)
                if self._give_up():
                    return False
                continue
            break
        self._next_seq += len(rows)
        if self._failing:
            self._failing = False
            self._cause = "timeout"
            _log.info("audit_recovered", chain=self.chain)
        self._on_loop(batch.complete, version)
        return True

    def _number(self, entries: Sequence[Entry]) -> list[AuditRow]:
        """Give the block its sequence numbers; what the log has from the outbox already takes none."""
        ids = {entry.outbox_id for entry in entries if entry.outbox_id is not None}
        known = self._table.known_outbox_ids(ids) if ids else frozenset()
        once: dict[str | int, AuditEvent] = {}
        for place, entry in enumerate(entries):
            if entry.outbox_id not in known:
                once.setdefault(place if entry.outbox_id is None else entry.outbox_id, entry.event)
        return [
            AuditRow(
                self.chain,
                seq,
                microseconds(event.time),
                key if isinstance(key, str) else None,
                to_json(event),
            )
            for seq, (key, event) in enumerate(once.items(), self._next_seq)
        ]

    def _failed(self, batch: Batch, cause: str) -> None:
        if not self._failing:
            self._failing = True
            _log.error("audit_unavailable", cause=cause, chain=self.chain)
        self._cause = cause
        self._on_loop(batch.complete, cause)
        with self._changed:
            waiting, self._open = self._open, self._open.without_waited()
        self._on_loop(waiting.complete, cause)

    def _give_up(self) -> bool:
        """Rest before the next try; True when there is none, because the time to close is over."""
        time.sleep(RETRY_SECONDS)
        return time.monotonic() >= self._close_by

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *arguments)


def _unavailable(cause: str) -> AuditUnavailableError:
    return AuditUnavailableError("the audit log cannot be written now", cause=cause)
