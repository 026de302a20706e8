"""Evidence against what a store knows."""

from __future__ import annotations

import pytest

from broker.core.evidence import Landmark, Position

BEFORE = Position("7423", 2, 1000)


@pytest.mark.parametrize(
    ("known", "behind"),
    [
        (Landmark(7, 3), False),
        (Landmark(8, 4), False),
        (Landmark(6, 3), True),
        (Landmark(7, 2), True),
        (Landmark(9, 2), True),
    ],
)
def test_less_than_noted_is_behind(known: Landmark, behind: bool) -> None:
    """A send or a landing that the store does not know was rolled back; one that was not noted yet was not."""
    assert behind == known.is_behind(Landmark(7, 3))


def test_the_furthest_counts() -> None:
    """Two notes of one grant are one, with the most of either."""
    assert Landmark(8, 3) == Landmark(8, 2).joined(Landmark(7, 3))


@pytest.mark.parametrize(
    ("now", "after"),
    [
        (BEFORE, True),
        (Position("7423", 2, 1001), True),
        (Position("7423", 2, 999), False),
        (Position("7423", 3, 2000), False),
        (Position("7423", 1, 2000), False),
        (Position("9999", 2, 2000), False),
    ],
)
def test_only_the_same_line_further_on_is_after(now: Position, after: bool) -> None:
    """Another database, another timeline, or less of the log: commits may be missing."""
    assert after == now.is_after(BEFORE)
