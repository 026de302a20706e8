"""Clocks, waiting and chance, so that tests can give them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Where time and chance come from.

    Attributes:
        monotonic: seconds that only grow; tokens expire by it.
        wall: seconds since the epoch, for a `Retry-After` that is a date in a reply without a date of its own.
        sleep: waits so many seconds.
        chance: a number from 0 up to 1, which spreads callers that were refused at the same moment.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
