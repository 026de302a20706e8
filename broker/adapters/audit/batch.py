"""A batch: the events that become one block, and the one future of all who wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from broker.core.audit import AuditEvent

DEADLINE_SECONDS: Final = 0.9
"""Longest wait for a batch; a port's second, less what the reply needs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event on its way; `outbox_id` when it was stored with its change."""

    event: AuditEvent
    outbox_id: str | None = None


class Batch:
    """Filled on the loop under the sink's lock; completed on the loop, once."""

    def __init__(self) -> None:
        """Begin an empty batch."""
        self._waited: list[Entry] = []
        self._offered: list[Entry] = []
        self._done: asyncio.Future[int | str] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """How many events are in it."""
        return len(self._waited) + len(self._offered)

    @property
    def offered(self) -> int:
        """How many of them nobody waits for."""
        return len(self._offered)

    @property
    def entries(self) -> Sequence[Entry]:
        """All events."""
        return [*self._offered, *self._waited]

    def offer(self, entry: Entry) -> None:
        """Add an event nobody waits for."""
        self._offered.append(entry)

    def wait_for(self, entries: Sequence[Entry], expire: Callable[[Batch], None]) -> asyncio.Future[int | str]:
        """Add events and return what their callers wait for: the version after the commit, or a failure's cause.

        `expire` is called DEADLINE_SECONDS after the first of them.
        """
        self._waited.extend(entries)
        if self._done is None:
            loop = asyncio.get_running_loop()
            self._done = loop.create_future()
            self._timer = loop.call_later(DEADLINE_SECONDS, expire, self)
        return self._done

    def without_waited(self) -> Batch:
        """Return a new batch with the events nobody waits for: those who wait are told, and no token leaves."""
        rest = Batch()
        rest._offered = self._offered
        return rest

    def complete(self, outcome: int | str) -> None:
        """Tell all who wait; a second outcome is ignored."""
        if self._timer is not None:
            self._timer.cancel()
        if self._done is not None and not self._done.done():
            self._done.set_result(outcome)
