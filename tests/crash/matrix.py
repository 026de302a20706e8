"""The crash matrix as a table: where a broker dies × what the provider does with a spent token, on both stores."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from aries_broker.errors import BrokerError
from broker.sandbox.behaviour import RotationMode
from tests.crash.lives import Lives, lives
from tests.crash.play import Verdict, play
from tests.crash.stories import MODES, STORIES, Story
from tests.support.broker import NotServingError
from tests.support.postgres import PostgresServer

Row = dict[RotationMode, Verdict]


async def play_all(folder: Path, postgres: PostgresServer | None, stories: Sequence[Story] = STORIES) -> dict[str, Row]:
    """Play every story on one store; a process of one row is the successor of the row before."""
    store = "SQLite" if postgres is None else "PostgreSQL"
    rows: dict[str, Row] = {}
    async with lives(folder, postgres) as broker:
        for number, story in enumerate(stories, 1):
            if story.replicas and postgres is None:
                continue
            alone = any(death.alone for death in story.deaths)
            started = time.monotonic()
            row: Row = {}
            for modes in [(mode,) for mode in story.modes] if alone else [story.modes]:
                row |= await _played(broker, story, modes)
            rows[story.name] = row
            lost = "  LOST BY US" if any(verdict.ours for verdict in row.values()) else ""
            took = time.monotonic() - started
            say(f"  {store:10} {number:2}/{len(stories)} {story.name:36} {took:5.1f} s{lost}")
    return rows


async def _played(broker: Lives, story: Story, modes: Sequence[RotationMode]) -> Mapping[RotationMode, Verdict]:
    """Play a story; what goes wrong with it is a verdict too, and the next story begins with a new life."""
    try:
        return await play(broker, story, modes)
    except (AssertionError, BrokerError, NotServingError, TimeoutError) as error:
        await broker.end()
        broker.die_at("", 0)
        await broker.start()
        return dict.fromkeys(modes, Verdict(f"{type(error).__name__}: {error}", ours=True))


def say(text: str) -> None:
    """Print a line of the report, at once."""
    print(text, flush=True)  # noqa: T201 - a report


def table(store: str, rows: dict[str, Row]) -> str:
    """Return the table of one store, with the reasons for every grant that has to be authorized anew."""
    lines = [f"{store:42}" + "".join(f"{mode:16}" for mode in MODES)]
    reasons: dict[str, int] = {}
    for name, row in rows.items():
        cells = [_cell(row.get(mode), reasons) for mode in MODES]
        lines.append(f"  {name:40}" + "".join(f"{cell:16}" for cell in cells))
    lines += [f"  [{number}] {why}" for why, number in reasons.items()]
    found = Counter(verdict.found for row in rows.values() for verdict in row.values() if not verdict.ours)
    counts = ", ".join(f"{number} {what}" for what, number in sorted(found.items()))
    lines.append(f"  {counts}; lost by us: {lost_by_us(rows)}")
    return "\n".join(lines)


def lost_by_us(rows: dict[str, Row]) -> int:
    """Return how many grants the protocol should have saved."""
    return sum(verdict.ours for row in rows.values() for verdict in row.values())


def _cell(verdict: Verdict | None, reasons: dict[str, int]) -> str:
    if verdict is None:
        return "–"
    if verdict.ours:
        return f"LOST: {verdict.found}"
    if verdict.why:
        return f"{verdict.found} [{reasons.setdefault(verdict.why, len(reasons) + 1)}]"
    return verdict.found
