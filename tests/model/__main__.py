"""`make model`: the checker at full size, and the table of rules that are needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.model.ablations import WITHOUT
from tests.model.provider import Mode
from tests.model.runs import FULL, Run, run_whole, run_without


def main() -> int:
    """Print what is found; return 1 when a rule is missing or one is not needed."""
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        whole = [pool.submit(run_whole, name, mode) for name in FULL for mode in Mode]
        without = [pool.submit(run_without, name) for name in WITHOUT]
        print("the protocol")  # noqa: T201 - a report
        good = [_say(run.result()) for run in whole]
        print("without one rule")  # noqa: T201 - a report
        good += [_say(run.result()) for run in without]
        print(f"{sum(run.result().result.worlds for run in whole):,} worlds")  # noqa: T201 - a report
    return 0 if all(good) else 1


def _say(run: Run) -> bool:
    found = ", ".join(sorted(run.result.violations)) or "no violation"
    print(f"  {run.what} {run.result.worlds:>9,} worlds  {found:14} {run.seconds:6.1f} s", flush=True)  # noqa: T201 - a report
    traces: Sequence[Sequence[str]] = list(run.result.violations.values()) if "-v" in sys.argv else ()
    for line in (line for trace in traces for line in trace):
        print(f"      {line}")  # noqa: T201 - a report
    return run.good


if __name__ == "__main__":
    sys.exit(main())
