"""Ctrl-C and SIGTERM, which end the demo, but never between starting a process and knowing of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, at once or at the end of a block that must be whole."""

    def __init__(self) -> None:
        self._held = 0
        self._arrived = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrive)

    def _arrive(self, _number: int, _frame: FrameType | None) -> None:
        if not self._held:
            raise KeyboardInterrupt
        self._arrived = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the block end before an interrupt that arrives in it takes effect.

        Raises:
            KeyboardInterrupt: at its end, when one arrived.
        """
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._arrived and not self._held:
            self._arrived = False
            raise KeyboardInterrupt
