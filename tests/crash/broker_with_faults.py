"""A broker as the product wires it, but for three wrapped parts and shorter waits: `python -m` it, with CRASH_PLAN.

CRASH_PLAN names the file that says where the process is to end; nothing in the product knows of it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from broker.main import serve
from broker.main.foundation import TIMES, Seams
from broker.settings import load
from tests.crash.faults import DyingEndpoint, DyingJournal, DyingStore, Plan

QUICK: Final = replace(
    TIMES,
    lease=TIMES.lease // 15,
    extend_every=TIMES.extend_every // 15,
    write_within=TIMES.lease // 20,
    silent=TIMES.silent // 15,
    in_flight=TIMES.in_flight // 50,
    journal_lost=TIMES.journal_lost // 50,
    store_up=TIMES.store_up // 50,
)
"""What others wait for is 15 to 50 times shorter: a licence ends before its lease, and a commit has to fit into it on a
busy disk. What a living process has for itself stays as it is: the reply's deadline, the margin of a window, the
patience with the store.
"""


def main() -> None:
    """Serve until SIGTERM, or until the plan's point."""
    plan = Plan(Path(os.environ["CRASH_PLAN"]))
    seams = Seams(
        times=QUICK,
        around_store=lambda store: DyingStore(store, plan),
        around_endpoint=lambda endpoint: DyingEndpoint(endpoint, plan),
        around_journal=lambda journal: DyingJournal(journal, plan),
    )
    serve(load(), None, seams)


if __name__ == "__main__":
    main()
