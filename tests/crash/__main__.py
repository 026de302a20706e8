"""`make crash`: the crash matrix on both stores, then three replicas of which one is killed, fifty times."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from tests.crash import matrix
from tests.crash.matrix import say
from tests.crash.replicas import herd, replicas, round_with_a_death
from tests.crash.stories import STORIES, Story
from tests.support.empty_database import put_empty_database
from tests.support.postgres import PostgresServer, running_postgres

CALLERS: Final = 1000
ROUNDS: Final = 50


def main() -> int:
    """Print what is found; return 1 when a grant was lost by us, or a token sent twice without a probe."""
    parser = argparse.ArgumentParser(prog="tests.crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the rounds with a death")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="play only the stories whose name contains this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_postgres(settings=("max_connections=200",)) as postgres:
        put_empty_database(Path(folder) / "empty")  # before others migrate beside it
        stories = [story for story in STORIES if arguments.only in story.name]
        wrong = asyncio.run(_matrix(Path(folder), postgres, stories)) if stories else 0
        wrong += asyncio.run(_rounds(Path(folder), postgres, arguments.rounds, arguments.seed))
    return int(wrong > 0)


async def _matrix(folder: Path, postgres: PostgresServer, stories: Sequence[Story]) -> int:
    started = time.monotonic()
    say(f"the crash matrix: {len(stories)} stories")
    places = {"SQLite": None, "PostgreSQL": postgres}
    for store in places:
        (folder / store).mkdir()
    played = [matrix.play_all(folder / store, server, stories) for store, server in places.items()]
    found = dict(zip(places, await asyncio.gather(*played), strict=True))
    for store, rows in found.items():
        say(f"\n{matrix.table(store, rows)}")
    lost = sum(map(matrix.lost_by_us, found.values()))
    say(f"\nlost by us: {lost}; {time.monotonic() - started:.0f} s")
    return lost


async def _rounds(folder: Path, postgres: PostgresServer, rounds: int, seed: int) -> int:
    started = time.monotonic()
    say(f"\nthree replicas, {CALLERS} callers, one expired grant; a replica is killed at a random moment; seed {seed}")
    (folder / "three").mkdir()
    wrong, reuses = 0, 0
    async with replicas(folder / "three", postgres, 3) as every:
        desk, before = await every.expired_grant(), every.sandbox.running.state.counters.token_calls
        answers = await herd(every, desk, CALLERS)
        calls = every.sandbox.running.state.counters.token_calls - before
        say(f"  nobody is killed: {len(answers)} token for {answers.total()} callers, {calls} call")
        wrong += (len(answers), answers.total(), calls) != (1, CALLERS, 1)
        random = Random(seed)
        for number in range(1, rounds + 1):
            it = await round_with_a_death(every, CALLERS, random)
            told = ", ".join(f"{count} {what}" for what, count in it.answers.most_common())
            say(f"  {number:2}/{rounds} {it.calls} calls, {it.probes} probes, {it.reuses} reuses; {told} {it.wrong}")
            wrong += bool(it.wrong)
            reuses += it.reuses
    say(f"{reuses} reuses seen, each after a probe; wrong: {wrong}; {time.monotonic() - started:.0f} s")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
