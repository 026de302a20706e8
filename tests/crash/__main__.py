"""`make crash`: the crash matrix on both stores, then three replicas of which one is killed, fifty times."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.crash import matrix
from tests.support.postgres import running_postgres


def main() -> int:
    """Print what is found; return 1 when a grant was lost by us."""
    arguments = argparse.ArgumentParser(prog="tests.crash", description=__doc__)
    arguments.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, running_postgres() as postgres:

        async def both() -> tuple[dict[str, matrix.Row], dict[str, matrix.Row]]:
            first = Path(folder) / "sqlite"
            second = Path(folder) / "postgres"
            for each in (first, second):
                each.mkdir()
            return await asyncio.gather(matrix.run(first, None), matrix.run(second, postgres))

        found = dict(zip(("SQLite", "PostgreSQL"), asyncio.run(both()), strict=True))
    for store, rows in found.items():
        print(f"\n{matrix.table(store, rows)}")  # noqa: T201 - a report
    lost = sum(map(matrix.lost_by_us, found.values()))
    print(f"\nlost by us: {lost}; {time.monotonic() - started:.0f} s")  # noqa: T201 - a report
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
