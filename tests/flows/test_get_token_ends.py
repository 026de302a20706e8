"""Tokens near their end: served while there is no better one, never past it, never one the API refused."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from broker.core.errors import ProviderUnavailableError
from broker.ports import NotSentError
from tests.flows.world import ALL, Replica, World, tokens
from tests.support.waiting import until

WHOLE = ("read", "trade")


async def refuse_connections(world: World) -> None:
    """Let the provider be away."""

    async def fail() -> None:
        raise NotSentError("connect")

    world.endpoint.connect = fail


@pytest.mark.parametrize("name", ["desk", "person"])
async def test_an_old_token_serves_to_its_end_and_not_past_it(world: World, replica: Replica, name: str) -> None:
    """While the provider is away, to five seconds before the end; then callers are told that it is."""
    first = await replica.get(*WHOLE, grant=name)
    await refuse_connections(world)
    world.clock.advance(first.lifetime - 61)
    served = []
    for left in (61, 59, 30, 6, 5, 1, 0, -1):
        try:
            issued = await replica.get(*WHOLE, grant=name)
        except ProviderUnavailableError:
            served.append((left, False))
        else:
            assert (first.fingerprint, left) == (issued.fingerprint, issued.lifetime)
            served.append((left, True))
        world.clock.advance({61: 2, 59: 29, 30: 24, 6: 1, 5: 4, 1: 1, 0: 1, -1: 0}[left])
    assert [(61, True), (59, True), (30, True), (6, True), (5, False), (1, False), (0, False), (-1, False)] == served


async def test_a_token_the_api_refused_is_not_served_again(world: World, replica: Replica) -> None:
    """Not even while the provider is away; others are served it, and a newer one serves whoever refused the old."""
    first = await replica.get(*WHOLE, grant="person")
    await refuse_connections(world)
    with pytest.raises(ProviderUnavailableError):
        await replica.get(*WHOLE, grant="person", rejected=first.fingerprint)
    assert first.fingerprint == (await replica.get(*WHOLE, grant="person")).fingerprint
    world.endpoint.connect = None
    world.clock.advance(60)
    newer = await replica.get(*WHOLE, grant="person", rejected=first.fingerprint)
    again = await replica.get(*WHOLE, grant="person", rejected=first.fingerprint)
    assert ("provider", "memory", newer.fingerprint) == (newer.source, again.source, again.fingerprint)
    assert first.fingerprint != newer.fingerprint


async def test_a_token_that_is_dead_on_arrival(world: World, replica: Replica) -> None:
    """The reply took longer than the token lives: nobody gets it, its refresh token is kept, the next one is fine."""
    world.endpoint.answers = [tokens(scope=" ".join(ALL), refresh_token="canary-rt-1", expires_in=10)]
    world.endpoint.hold = asyncio.Event()
    asked = asyncio.create_task(replica.get(*WHOLE, grant="person"))
    await until(lambda: len(world.endpoint.requests) == 1)
    world.clock.advance(10)
    world.endpoint.hold.set()
    with pytest.raises(ProviderUnavailableError) as told:
        await asked
    assert ("dead_on_arrival", "canary-rt-1") == (told.value.cause, await world.refresh_token("person"))
    world.endpoint.live = "canary-rt-1"
    world.clock.advance(60)
    assert "provider" == (await replica.get(*WHOLE, grant="person")).source


@pytest.mark.parametrize("life", [2, 10, 29, 30, 60, 600, 3600, 86_400])
async def test_callers_come_back_within_a_token_s_life(world: World, life: int) -> None:
    """Whatever is left of it, and not two together: after the broker's renewal where there is one, before the end."""
    replica = await world.replica()
    replica.get_token._random = Random(life)
    world.endpoint.answers = [tokens(scope=" ".join(ALL), expires_in=life, refresh_token="canary-rt-1")]
    seen = []
    for _ in range(20):
        issued = await replica.get(*WHOLE, grant="person", min_lifetime=0.1)
        seen.append(issued.renew_after / issued.lifetime)
        world.clock.advance(life * 0.03)
    assert [True] * 20 == [0 < share <= 0.95 for share in seen]
    assert 20 == len(set(seen))
    assert 0.6 <= seen[0]
