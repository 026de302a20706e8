"""`make model`: the checker at full size, and the table of rules that are needed."""

from __future__ import annotations

import sys
import time
from typing import Final

from tests.model.ablations import WITHOUT
from tests.model.check import Result, check
from tests.model.provider import Mode
from tests.model.world import Budget

FULL: Final = {
    "crashes, pauses, silences": Budget(redeems=4, crashes=1, lease_ends=2, losses=1),
    "crashes and outages": Budget(redeems=3, crashes=2, outages=1, lease_ends=1, losses=1),
    "revoke": Budget(redeems=3, crashes=1, outages=1, lease_ends=1, losses=1, revokes=1),
    "new consent": Budget(redeems=3, crashes=1, lease_ends=1, losses=1, consents=1),
    "unread": Budget(redeems=4, crashes=1, lease_ends=1, losses=1, unread=1),
}


def main() -> int:
    """Print what is found; return 1 when a rule is missing or one is not needed."""
    failed = False
    print("the protocol")  # noqa: T201 - a report
    for name, budget in FULL.items():
        for mode in Mode:
            started = time.monotonic()
            result = check(mode, budget)
            failed |= bool(result.violations) or not result.complete
            _say(f"{name:28} {mode:12}", result, started)
    print("without one rule")  # noqa: T201 - a report
    for name, ablation in WITHOUT.items():
        started = time.monotonic()
        result = check(ablation.mode, ablation.budget, ablation.rules, after=ablation.after, stop=True)
        failed |= ablation.breaks not in result.violations
        _say(f"{name:55} {ablation.mode:10}", result, started)
    return int(failed)


def _say(what: str, result: Result, started: float) -> None:
    found = ", ".join(sorted(result.violations)) or "no violation"
    print(f"  {what} {result.worlds:>9,} worlds  {found:14} {time.monotonic() - started:6.1f} s", flush=True)  # noqa: T201 - a report
    for trace in result.violations.values() if "-v" in sys.argv else ():
        for line in trace:
            print(f"      {line}")  # noqa: T201 - a report


if __name__ == "__main__":
    sys.exit(main())
