"""A sample of the crash matrix; `make crash` plays it whole."""

from __future__ import annotations

from pathlib import Path

from broker.sandbox.behaviour import RotationMode
from tests.crash.matrix import lost_by_us, play_all, table
from tests.crash.stories import MODES, SAMPLE, STORIES


async def test_what_a_crash_leaves_is_served_again(tmp_path: Path) -> None:
    """Whatever the provider makes of a spent token, only what nobody can know costs a new login."""
    stories = [story for story in STORIES if story.name in SAMPLE]
    rows = await play_all(tmp_path, None, stories)
    assert 0 == lost_by_us(rows), table("SQLite", rows)
    expected = {**dict.fromkeys(MODES, "recovered"), RotationMode.ROTATE: "re-login"}
    assert [expected] == [{mode: verdict.found for mode, verdict in row.items()} for row in rows.values()]
