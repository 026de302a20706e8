"""`aries-broker demo`: the whole story on one screen, with real processes over real sockets.

Everything lives in a temporary folder and in processes started here; both are gone at the end, also after Ctrl-C.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from broker.cli.demo.interrupts import Interrupts
from broker.cli.demo.processes import Processes
from broker.cli.demo.story import tell


def run() -> None:
    """Tell the story.

    Raises:
        CommandError: something went otherwise than told; its text says what.
    """
    interrupts = Interrupts()
    with (
        tempfile.TemporaryDirectory(prefix="aries-broker-demo-") as folder,
        Processes(Path(folder), interrupts) as processes,
    ):
        tell(processes)
