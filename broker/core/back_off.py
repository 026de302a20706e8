"""How long a grant is left alone after a redeem that came to nothing."""

from __future__ import annotations

from typing import Final

FIRST: Final = 1_000
"""Milliseconds after the first failure; doubled with each in a row, up to"""
LONGEST: Final = 300_000

_DOUBLINGS: Final = 10


def back_off(failures: int, retry_after: float | None, spread: float) -> int:
    """Return milliseconds before the next redeem.

    Args:
        failures: how often in a row it failed before this time.
        retry_after: seconds the provider asked for; never less than that, but bounded all the same.
        spread: a random number from 0 to 1, so that grants that failed together do not come back together: up to a
            quarter is added, to the longest wait as well.
    """
    waits = FIRST << min(failures, _DOUBLINGS)
    wanted = 0 if retry_after is None else round(retry_after * 1000)
    return round(min(LONGEST, max(waits, wanted)) * (1 + spread / 4))
