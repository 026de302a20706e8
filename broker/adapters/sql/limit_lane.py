"""One lane of the shared buckets: the requests that wait at a moment are one call, one call is under way at a time.

A call that fails or takes too long cuts the lane off: its requests, and those that come, are decided by this replica's
share, and the store is asked again and again until it answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from broker.adapters.sql.errors import unavailable
from broker.adapters.sql.limit_share import Debts, Share
from broker.adapters.sql.limit_table import Answer, LimitTable
from broker.core.errors import StoreUnavailableError
from broker.core.gcra import ALLOWED, Charge, Decision, strictest
from broker.ports import LimitTelemetry

T = TypeVar("T")

MOST: Final = 256
"""Requests in one call: more take longer than those behind them should wait."""
PATIENCE: Final = 0.2
"""Seconds a call may take; a request waits for the one under way and for its own."""
UNREAD: Final = 0.05
"""Seconds more: a process that was kept busy may have its answer already, and not have read it."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
"""Seconds between two tries to come back."""
STUCK_SECONDS: Final = 5.0
"""How long a call that was given up may go on before its connection is: a server that was only paused answers it."""
CLOSE_SECONDS: Final = 0.1


@dataclass(slots=True)
class _Request:
    charges: Sequence[Charge]
    decision: asyncio.Future[Decision]


class LimitLane:
    """A lane; never raises, and answers within a second."""

    def __init__(
        self, *, table: LimitTable, share: Share, debts: Debts, telemetry: LimitTelemetry, patience: float
    ) -> None:
        """Make a lane that is not connected yet.

        Args:
            table: where the buckets are.
            share: this process's, the same for all lanes.
            debts: of this lane alone.
            telemetry: told when the lane is cut off, and when it comes back.
            patience: seconds a call may take.
        """
        self._table = table
        self._share = share
        self._debts = debts
        self._telemetry = telemetry
        self._patience = patience
        self._waiting: deque[_Request] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._stuck: asyncio.Task[object] | None = None
        self._pause = FIRST_PAUSE

    async def open(self) -> None:
        """Connect, so that the first requests need not wait for that; a store that is away is come back to."""
        try:
            await asyncio.wait_for(self._table.add([]), STUCK_SECONDS)
        except (StoreUnavailableError, TimeoutError) as error:
            self._cut_off(getattr(error, "cause", "timeout"))

    async def spend(self, charges: Sequence[Charge]) -> Decision:
        """Decide a request; it is decided even if its caller leaves."""
        if self._returning is not None:
            return self._by_share(charges)
        request = _Request(charges, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await request.decision

    async def aclose(self) -> None:
        """Let the call under way end, stop coming back, close the connection."""
        if self._sending is not None:
            await asyncio.wait({self._sending})
        for task in (self._returning, self._stuck):
            while task is not None and not task.done():
                task.cancel()  # the driver takes the first as a wish to cancel the statement, the second as an order
                await asyncio.wait({task}, timeout=CLOSE_SECONDS)
        await self._table.aclose()

    async def _send(self) -> None:
        """Ask for all that wait, until nobody does; whoever is left without an answer has it from the share."""
        batch: list[_Request] = []
        try:
            while self._waiting:
                if self._debts:  # of what was decided while the lane came back
                    await self._settle()
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST))]
                answers = await self._within(self._table.spend([request.charges for request in batch]))
                for request, answered in zip(batch, answers, strict=True):
                    _tell(request, self._decide(request.charges, answered))
                self._pause = FIRST_PAUSE
        except StoreUnavailableError as error:
            self._cut_off(error.cause)
        finally:
            self._sending = None
            left = [request for request in (*batch, *self._waiting) if not request.decision.done()]
            self._waiting.clear()
            for request in left:
                _tell(request, self._by_share(request.charges))

    def _decide(self, charges: Sequence[Charge], answers: Sequence[Answer]) -> Decision:
        refusals = []
        for charge, answer in zip(charges, answers, strict=True):
            if answer.wait is None:
                refusals.append(Decision(allowed=False, limit=charge.limit, newer_rule=answer.version))
                continue
            self._share.learn(charge, answer.debt, answer.version)
            if answer.wait:
                refusals.append(Decision(allowed=False, limit=charge.limit, retry_after=answer.wait))
        return strictest(refusals) if refusals else ALLOWED

    def _by_share(self, charges: Sequence[Charge]) -> Decision:
        self._telemetry.limit_decided_by_share()
        decision = self._share.spend(charges)
        if decision.allowed:
            for charge in charges:
                self._debts.owe(charge)
        return decision

    async def _within(self, work: Coroutine[object, object, T]) -> T:
        """Return what the call returns; one that takes too long goes on by itself.

        Raises:
            StoreUnavailableError: it failed, or takes too long.
        """
        task = asyncio.create_task(work)
        for seconds in (self._patience, UNREAD):
            done, _ = await asyncio.wait({task}, timeout=seconds)
            if done:
                return task.result()
        self._stuck = task
        raise unavailable("timeout")

    def _cut_off(self, cause: str) -> None:
        self._telemetry.limits_cut_off(cause)
        self._returning = asyncio.create_task(self._come_back())

    async def _come_back(self) -> None:
        """Ask until the store answers, and tell it what was spent meanwhile."""
        while True:
            await self._unstick()
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            with suppress(StoreUnavailableError):
                await self._settle()
                break
        self._returning = None
        self._telemetry.limits_shared_again()

    async def _settle(self) -> None:
        """Put what this lane owes on the shared buckets.

        Raises:
            StoreUnavailableError: it may not be there; it is owed still.
        """
        debts = self._debts.take()
        try:
            await self._within(self._table.add(debts))
        except StoreUnavailableError:
            self._debts.owe_again(debts)
            raise

    async def _unstick(self) -> None:
        """Wait for a call that was given up, then give its connection up too."""
        if self._stuck is None:
            return
        done, _ = await asyncio.wait({self._stuck}, timeout=STUCK_SECONDS)
        if not done:
            self._stuck.cancel()
            await asyncio.wait({self._stuck})  # the driver sees to it that this ends
        if not self._stuck.cancelled():
            self._stuck.exception()  # seen: it was given up
        self._stuck = None


def _tell(request: _Request, decision: Decision) -> None:
    if not request.decision.done():  # its caller may have left
        request.decision.set_result(decision)
