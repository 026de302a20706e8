"""The journal in memory: it survives as long as the object does."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from broker.ports import JournalError, Received


class MemoryJournal:
    """The port Journal.

    Attributes:
        entries: what is written, by place.
        broken: the disk takes nothing.
    """

    def __init__(self, places: int = 100) -> None:
        """Make an empty journal."""
        self.entries: dict[int, Received] = {}
        self.broken = False
        self.volume = secrets.token_hex(16)
        self._free = list(reversed(range(places)))
        self._found: tuple[tuple[int, Received], ...] = ()

    @property
    def held(self) -> int:
        """How many entries it holds."""
        return len(self.entries)

    def reserve(self) -> int | None:
        """Take a free place, or None when there is none."""
        return self._free.pop() if self._free else None

    def release(self, place: int) -> None:
        """Give back a place; one that holds an entry stays taken."""
        if place not in self.entries:
            self._free.append(place)

    async def write(self, place: int, received: Received) -> None:
        """Write an entry.

        Raises:
            JournalError: the journal is broken.
        """
        self._fail_if_broken()
        self.entries[place] = received

    async def clear(self, place: int) -> None:
        """Remove an entry.

        Raises:
            JournalError: the journal is broken.
        """
        self._fail_if_broken()
        del self.entries[place]

    def found(self) -> Sequence[tuple[int, Received]]:
        """Return what was there when it was opened."""
        return self._found

    def reopened(self) -> MemoryJournal:
        """Return the journal as the next process finds it."""
        after = MemoryJournal()
        after.volume = self.volume
        after.entries = dict(self.entries)
        after._found = tuple(self.entries.items())
        after._free = [place for place in after._free if place not in after.entries]
        return after

    def _fail_if_broken(self) -> None:
        if self.broken:
            raise JournalError("the journal is broken")
