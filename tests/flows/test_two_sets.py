"""Two scope sets of one grant in use at the same time: neither's redeem costs the other its token."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from broker.flows import renew
from tests.flows.world import NARROWING, Replica, new_world
from tests.support.waiting import ENOUGH

SETS = ("read", "trade")
HOUR = 3600
EVERY = 10
"""Seconds between two calls of a caller."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns are looked for without a pause; the clock stands still meanwhile."""
    monkeypatch.setattr(renew, "EVERY", 0.004)


async def test_two_sets_take_two_redeems_an_hour_each() -> None:
    """An hour of callers at two replicas, each after each: a redeem when the hour begins and one before it ends."""
    world = await new_world(NARROWING)
    replicas = [await world.replica(owner) for owner in ("a", "b")]
    sources: Counter[str] = Counter()
    for _ in range(HOUR // EVERY):
        for replica in replicas:
            for scope in SETS:
                sources[(await replica.get(scope, grant="person")).source] += 1
            await _renewed(replica)
        world.clock.advance(EVERY)
    redeems = Counter(request["scope"] for request in world.endpoint.requests)
    assert [2, 2] == list(redeems.values())
    assert len(SETS) == sources["provider"]  # only the first of each set waited for the provider
    assert HOUR // EVERY * len(replicas) * len(SETS) == sources.total()


async def _renewed(replica: Replica) -> None:
    await replica.renew.look()
    async with asyncio.timeout(ENOUGH):
        await asyncio.gather(*replica.renew._running)
