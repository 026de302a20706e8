"""Renewal ahead of expiry."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest

from broker.core.errors import ProviderUnavailableError
from broker.core.models import Client, GrantType, Limit, LimitTarget, Origin, Provider, Window
from broker.flows import renew
from tests.flows.world import CLIENT, NARROWING, Replica, World, error, grant, new_world, policy
from tests.support.waiting import ENOUGH, until

WHOLE = ("read", "trade")
LIFE = 3600.0


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns are looked for without a pause; the clock stands still meanwhile."""
    monkeypatch.setattr(renew, "EVERY", 0.004)


async def renewed(replica: Replica) -> None:
    """Look once, and wait for what that began."""
    await replica.renew.look()
    async with asyncio.timeout(ENOUGH):
        await asyncio.gather(*replica.renew._running)


async def used_world() -> tuple[World, Replica]:
    """Return a world in which both grants' tokens were just handed out."""
    world = await new_world(NARROWING)
    replica = await world.replica()
    await replica.get()
    await replica.get(*WHOLE, grant="person")
    await replica.renew.look()
    return world, replica


async def test_what_is_used_is_renewed_behind_callers() -> None:
    """At its time each token is renewed, once; until then and after it nobody waits for the provider."""
    world, replica = await used_world()
    world.clock.advance(0.59 * LIFE)
    await renewed(replica)
    assert 2 == len(world.endpoint.requests)
    world.clock.advance(0.22 * LIFE)
    before = [await replica.get(), await replica.get(*WHOLE, grant="person")]
    await renewed(replica)
    await renewed(replica)
    after = [await replica.get(), await replica.get(*WHOLE, grant="person")]
    assert 4 == len(world.endpoint.requests)
    assert ["memory"] * 4 == [issued.source for issued in (*before, *after)]
    assert [LIFE] * 2 == [issued.lifetime for issued in after]


async def test_what_nobody_uses_is_not_renewed() -> None:
    """A token that was not handed out within its life ends by itself: one that comes in vain is the last."""
    world, replica = await used_world()
    for _ in range(3):
        world.clock.advance(0.85 * LIFE)
        await renewed(replica)
    assert 4 == len(world.endpoint.requests)


async def test_one_replica_renews_and_the_others_take_it_over() -> None:
    """A token due is given to one; who hands out the old one in the meantime finds the new one in the store."""
    world, one = await used_world()
    other = await world.replica("b")
    assert "store" == (await other.get()).source
    world.clock.advance(0.85 * LIFE)
    await asyncio.gather(renewed(one), renewed(other))
    assert 4 == len(world.endpoint.requests)
    for replica in (one, other):
        await replica.get()
        await replica.renew.look()
    assert [LIFE] * 2 == [(await replica.get()).lifetime for replica in (one, other)]
    assert 4 == len(world.endpoint.requests)


async def test_a_provider_that_is_away_is_tried_again_later() -> None:
    """The old token serves on, to its end and not beyond; each try is half a minute after the last."""
    world, replica = await used_world()
    world.clock.advance(0.85 * LIFE)
    for _ in range(2):
        world.endpoint.answers = [error("x", 503), error("x", 503)]
        await renewed(replica)
        await renewed(replica)
        assert "memory" == (await replica.get()).source
        world.clock.advance(renew.AGAIN)
    tries = Counter(request["grant_type"] for request in world.endpoint.requests)
    assert {"refresh_token": 2, "client_credentials": 3} == tries  # a refresh without an answer is not repeated
    world.endpoint.answers = [error("x", 503)] * 9
    world.clock.advance(0.15 * LIFE)
    with pytest.raises(ProviderUnavailableError):
        await replica.get()


@pytest.mark.parametrize("moved", [replace(NARROWING, frozen=True), replace(CLIENT, client_id="another-app")])
async def test_a_grant_that_moved_on_or_is_held_is_left_alone(moved: Provider | Client) -> None:
    """Held, or of another registration since, its token is not renewed."""
    world, replica = await used_world()
    await world.hold("person")
    await world.put(moved)
    await replica.view.catch_up(await world.store.inner.read_version())
    world.clock.advance(0.85 * LIFE)
    await renewed(replica)
    assert 2 == len(world.endpoint.requests)


async def test_renewals_come_one_after_the_other() -> None:
    """Of a hundred tokens due at once, as many are renewed at once as the window lets begin; the rest wait."""
    world = await new_world()
    names = [f"g{number}" for number in range(30)]
    await world.put(*(grant(name, GrantType.CLIENT_CREDENTIALS) for name in names))
    await world.put(policy("many", "key:orders", "g*", "read"))
    replica = await world.replica()
    for name in names:
        await replica.get(grant=name)
        world.clock.advance(1)
    await replica.renew.look()
    world.clock.advance(0.85 * LIFE)
    await replica.renew.look()
    await until(lambda: len(world.endpoint.requests) == 30 + renew.RENEWALS.burst)
    world.clock.advance(0.5)
    await until(lambda: len(world.endpoint.requests) == 30 + renew.RENEWALS.burst + 5)
    await replica.renew.aclose()


async def test_a_provider_that_hangs_holds_up_few() -> None:
    """No more are under way at one provider at once, however long they take."""
    world = await new_world()
    names = [f"g{number}" for number in range(renew.AT_ONCE + 2)]
    await world.put(*(grant(name, GrantType.CLIENT_CREDENTIALS) for name in names))
    await world.put(policy("many", "key:orders", "g*", "read"))
    replica = await world.replica()
    for name in names:
        await replica.get(grant=name)
    await replica.renew.look()
    world.clock.advance(0.85 * LIFE)
    world.endpoint.hold = asyncio.Event()
    sent = len(names)
    await replica.renew.look()
    await until(lambda: len(world.endpoint.requests) == sent + renew.AT_ONCE)
    world.clock.advance(5)
    world.endpoint.hold.set()
    await asyncio.gather(*replica.renew._running)
    assert 2 * sent == len(world.endpoint.requests)
    assert 0 == replica.renew._at["p1"]


@pytest.mark.parametrize(("remaining", "renews"), [(0.15 * LIFE, False), (renew.SOON - 1, True)])
async def test_callers_that_wait_go_first(remaining: float, renews: bool) -> None:
    """While redeems wait for a provider's permits nothing is renewed there ahead, but what ends soon."""
    world, replica = await used_world()
    waiting = [True]
    replica.renew._callers_wait = lambda _: waiting[0]
    world.clock.advance(LIFE - remaining)
    await replica.renew.look()
    running = list(replica.renew._running)
    assert 2 == len(running)
    if renews:
        await asyncio.gather(*running)
    assert (4 if renews else 2) == len(world.endpoint.requests)
    waiting[0] = False
    await asyncio.gather(*running)
    assert 4 == len(world.endpoint.requests)


async def test_a_turn_that_does_not_come_is_given_up() -> None:
    """The token is due again half a minute after it was."""
    world, replica = await used_world()
    asked: list[object] = []

    def always(provider: Provider) -> bool:
        asked.append(provider)
        return True

    replica.renew._callers_wait = always
    world.clock.advance(0.85 * LIFE)
    await replica.renew.look()
    await until(lambda: len(asked) >= 2)
    world.clock.advance(renew.PATIENCE)
    async with asyncio.timeout(ENOUGH):
        await asyncio.gather(*replica.renew._running)
    assert 2 == len(world.endpoint.requests)


async def test_a_limited_provider_keeps_half_for_callers() -> None:
    """Renewals take no more than half of what the provider's limit lets happen."""
    world, replica = await used_world()
    limit = Limit("l1", "as", Origin.RPC, LimitTarget.PROVIDER, ("provider",), (Window(Fraction(1), 4),))
    await world.put(limit)
    await replica.view.catch_up(await world.store.inner.read_version())
    charges = renew._charges(replica.view.catalog.limits, NARROWING)
    assert [(Fraction(10), 10), (Fraction(1, 2), 2)] == [
        (Fraction(1_000_000, charge.emission_interval), charge.tolerance // charge.emission_interval)
        for charge in charges
    ]


async def test_a_store_that_is_away_is_asked_again() -> None:
    """What was handed out meanwhile is noted once it is back."""
    world, replica = await used_world()
    world.clock.advance(0.5 * LIFE)
    await replica.get()
    world.store.away = {"*"}
    await replica.renew.look()
    world.store.away = set()
    await replica.renew.look()
    keys = [key for key, row in world.store.inner._access.items() if row.used_at > 1000 * (1000 + 0.4 * LIFE)]
    assert ["id-desk"] == [key.grant_id for key in keys]
