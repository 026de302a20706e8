"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """Port `Clock` over the kernel's clocks."""

    def now(self) -> float:
        """Return UTC seconds since the epoch."""
        return time.time()

    def boottime(self) -> float:
        """Return seconds of CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
