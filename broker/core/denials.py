"""How many denials are recorded in full: the first few of each origin and minute, the rest as one counted event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from broker.core.audit import AuditEvent

MINUTE: Final = 60.0
MAX_ORIGINS: Final = 10_000
"""Origins told apart in one minute; further ones share one count, so that many addresses cannot fill the memory."""

OTHERS: Final = ""


@dataclass(slots=True)
class _Window:
    started: float
    seen: int
    rest: AuditEvent | None


class DenialTally:
    """Decides per origin (a peer's address, a caller) whether a denial is recorded in full or counted."""

    def __init__(self, in_full: int) -> None:
        """Record `in_full` denials of each origin and minute in full."""
        self._in_full = in_full
        self._windows: dict[str, _Window] = {}

    def admit(self, origin: str, event: AuditEvent, now: float) -> bool:
        """Take a denial at `now` (monotonic seconds); True: record it in full, False: it has been counted.

        Windows that ended must have been taken by `due` first.
        """
        if origin not in self._windows and len(self._windows) >= MAX_ORIGINS:
            origin = OTHERS
        window = self._windows.setdefault(origin, _Window(now, 0, None))
        window.seen += 1
        if window.seen <= self._in_full and origin != OTHERS:
            return True
        counted = 1 if window.rest is None else window.rest.count + 1
        window.rest = replace(
            event, count=counted, request_id="", caller_request_id="", peer=event.peer if origin else ""
        )
        return False

    def due(self, now: float) -> Iterator[AuditEvent]:
        """Forget windows that ended by `now`, and return the counted event of each that has one.

        A counted event is the newest of those it stands for, without the ids of one request.
        """
        ended = [origin for origin, window in self._windows.items() if now - window.started >= MINUTE]
        for origin in ended:
            rest = self._windows.pop(origin).rest
            if rest is not None:
                yield rest

    def flush(self) -> Iterator[AuditEvent]:
        """Forget all windows and return what they counted; at the end of the process."""
        return self.due(float("inf"))
