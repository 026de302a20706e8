"""`make model`: the checker at full size, and the table of rules that are needed."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

from tests.model.ablations import WITHOUT
from tests.model.check import Result, check
from tests.model.provider import Mode
from tests.model.world import Budget

FULL: Final = {
    "crash, pauses, silence": Budget(redeems=3, crashes=1, lease_ends=2, losses=1),
    "crashes, outage, silence": Budget(redeems=2, crashes=2, outages=1, lease_ends=1, losses=1),
    "revoke, crash, outage": Budget(redeems=2, crashes=1, outages=1, lease_ends=1, losses=1, revokes=1),
    "new consent, crash": Budget(redeems=3, crashes=1, lease_ends=1, losses=1, consents=1),
    "unread, crash": Budget(redeems=3, crashes=1, lease_ends=1, losses=1, unread=1),
}


@dataclass(frozen=True)
class Run:
    """One run of the checker, and whether it was as it has to be."""

    what: str
    result: Result
    seconds: float
    good: bool


def main() -> int:
    """Print what is found; return 1 when a rule is missing or one is not needed."""
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        whole = [pool.submit(_whole, name, mode) for name in FULL for mode in Mode]
        without = [pool.submit(_without, name) for name in WITHOUT]
        print("the protocol")  # noqa: T201 - a report
        good = [_say(run.result()) for run in whole]
        print("without one rule")  # noqa: T201 - a report
        good += [_say(run.result()) for run in without]
        print(f"{sum(run.result().result.worlds for run in whole):,} worlds")  # noqa: T201 - a report
    return 0 if all(good) else 1


def _whole(name: str, mode: Mode) -> Run:
    gc.disable()  # nothing here refers to itself, and going over millions of worlds again and again takes half the time
    started = time.monotonic()
    result = check(mode, FULL[name])
    good = result.complete and not result.violations
    return Run(f"{name:28} {mode:12}", result, time.monotonic() - started, good)


def _without(name: str) -> Run:
    started, ablation = time.monotonic(), WITHOUT[name]
    result = check(ablation.mode, ablation.budget, ablation.rules, after=ablation.after, stop=True)
    good = ablation.breaks in result.violations
    return Run(f"{name:55} {ablation.mode:10}", result, time.monotonic() - started, good)


def _say(run: Run) -> bool:
    found = ", ".join(sorted(run.result.violations)) or "no violation"
    print(f"  {run.what} {run.result.worlds:>9,} worlds  {found:14} {run.seconds:6.1f} s", flush=True)  # noqa: T201 - a report
    traces: Sequence[Sequence[str]] = list(run.result.violations.values()) if "-v" in sys.argv else ()
    for line in (line for trace in traces for line in trace):
        print(f"      {line}")  # noqa: T201 - a report
    return run.good


if __name__ == "__main__":
    sys.exit(main())
