"""Says how far something is, on stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from broker.cli.output import print_error
from broker.core.visible import escape


class Progress:
    """One line that is rewritten on a terminal, and elsewhere a line for each change; other lines come after its end.

    As a context manager it ends with the block.
    """

    def __init__(self) -> None:
        self._rewrites = sys.stderr.isatty()
        self._shown = ""

    def show(self, stage: str) -> None:
        """Say where it is now; nothing if that was said last."""
        text = f"{escape(stage)} …"
        if text == self._shown:
            return
        covered = len(self._shown)
        self._shown = text  # before it is: Ctrl-C may come at once, and `end` has to know
        if self._rewrites:
            # Blanks cover what was longer: that works on every terminal.
            sys.stderr.write(f"\r{text.ljust(covered)}")
            sys.stderr.flush()
        else:
            print_error(text)

    def end(self) -> None:
        """Leave the line as it stands, and go to the next."""
        shown, self._shown = self._shown, ""
        if self._rewrites and shown:
            sys.stderr.write("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
