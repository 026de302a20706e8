"""Time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time as flows may know it."""

    def now(self) -> float:
        """UTC, seconds since the epoch; may step. For people and JWTs, never for safety."""

    def boottime(self) -> float:
        """Seconds of CLOCK_BOOTTIME: never steps, counts suspend. For lifetimes and deadlines."""
