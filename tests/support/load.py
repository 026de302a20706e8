"""More than a limit allows, offered to it by several at once, and whether it held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import NamedTuple

from broker.core.gcra import Charge, Decision, charge
from broker.core.models import Window

Spend = Callable[[Sequence[Charge]], Awaitable[Decision]]


class Admitted(NamedTuple):
    """When one was asked for and answered, in seconds; admitted at some moment between."""

    asked: float
    answered: float


async def offer(replicas: Sequence[Spend], window: Window, *, per_second: float, seconds: float) -> list[Admitted]:
    """Offer one bucket's units to all replicas in turn, so many a second, answered or not; return what was admitted."""
    wanted = charge("l", ("l", "0", "hot"), window)
    admitted: list[Admitted] = []

    async def ask(spend: Spend) -> None:
        asked = monotonic()
        if (await spend([wanted])).allowed:
            admitted.append(Admitted(asked, monotonic()))

    started, offered = monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while (elapsed := monotonic() - started) < seconds:
            while offered < elapsed * per_second:
                group.create_task(ask(replicas[offered % len(replicas)]))
                offered += 1
            await asyncio.sleep(0.002)
    return admitted


def worst_excess(admitted: Sequence[Admitted], rate: float, burst: int) -> float:
    """Return by how many units the worst span exceeds its rate and burst; what may lie outside of it is not counted."""
    worst = -float(burst)
    by_answer = sorted(admitted, key=lambda one: one.answered)
    for begin in sorted({one.asked for one in admitted}):
        ends = (one.answered for one in by_answer if one.asked >= begin)
        for units, end in enumerate(ends, 1):
            worst = max(worst, units - rate * (end - begin) - burst)
    return worst
