"""Which tokens a caller is told of, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from broker.core import lease
from broker.core.errors import InvalidRequestError, StoreUnavailableError
from broker.core.identity import CallerId, Role
from broker.core.models import Kind, Origin, RoleBinding
from broker.flows import watch_revocations
from broker.flows.trail import Trail
from broker.flows.watch_revocations import Revocations, WatchRevocations
from tests.flows.world import NARROWING, Replica, World, new_world, policy
from tests.support.waiting import ENOUGH

ORDERS, REPORTS = CallerId("key", "orders"), CallerId("key", "reports")
Stream = AsyncGenerator[Revocations | None, None]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is looked at without a pause."""
    monkeypatch.setattr(watch_revocations, "TICK", 0.002)


def watcher(world: World, replica: Replica) -> WatchRevocations:
    """Return the flow of a replica."""
    store = world.store
    return WatchRevocations(view=replica.view, access_tokens=store, clock=world.clock)


async def following(stream: Stream) -> Revocations:
    """Return what is told next."""
    async with asyncio.timeout(ENOUGH):
        async for told in stream:
            if told is not None:
                return told
    raise AssertionError


async def silence(stream: Stream) -> None:
    """See that nothing is told, in several turns of the stream."""
    for _ in range(5):
        assert None is await anext(stream)


async def held(world: World, replica: Replica, name: str) -> str:
    """Freeze a grant, let the replica hear of it, and return the cursor from then on."""
    await replica.hold(name, lease.Freeze(), Trail("Freeze", "peer", "r1", actor="key:ops"))
    version = await world.store.inner.read_version()
    await replica.view.catch_up(version)
    return str(version)


async def test_a_watch_begins_with_a_cursor() -> None:
    """Who never was here drops all, since what it holds may have ended before; who comes back goes on."""
    world = await new_world()
    replica = await world.replica()
    now = str(replica.view.version)
    flow = watcher(world, replica)
    async with aclosing(flow(ORDERS, "")) as first, aclosing(flow(ORDERS, now)) as again:
        assert Revocations(now, drop_all=True) == await following(first)
        assert Revocations(now) == await following(again)
        await silence(first)


async def test_only_those_are_told_who_may_have_the_token() -> None:
    """A freeze ends both sets of a grant; whom policy lets read hears of the one, whom it lets trade too of both."""
    world = await new_world(NARROWING)
    replica = await world.replica()
    reading, trading = await replica.get("read"), await replica.get("read", "trade")
    await replica.get("read", "trade", grant="person")
    flow, now = watcher(world, replica), str(replica.view.version)
    async with aclosing(flow(ORDERS, now)) as orders, aclosing(flow(REPORTS, now)) as reports:
        for stream in (orders, reports):
            await following(stream)
        after = await held(world, replica, "desk")
        assert Revocations(after, (reading.fingerprint,)) == await following(reports)
        told = await following(orders)
        assert (after, {reading.fingerprint, trading.fingerprint}) == (told.cursor, set(told.fingerprints))
        await held(world, replica, "person")
        assert 1 == len((await following(orders)).fingerprints)
        await silence(reports)


async def test_an_accepted_excess_is_told_of() -> None:
    """A caller that may have a wider token hears of it."""
    world = await new_world()
    await world.put(policy("wide", "key:wide", "desk", "read", "order:execution"))
    replica = await world.replica()
    await replica.get("read", "trade")
    flow, now = watcher(world, replica), str(replica.view.version)
    async with aclosing(flow(CallerId("key", "wide"), now)) as stream:
        await following(stream)
        await held(world, replica, "desk")
        assert 1 == len((await following(stream)).fingerprints)


async def test_who_was_away_hears_what_it_missed() -> None:
    """A cursor of before brings all since; one of too long ago, or of another database, drops all."""
    world = await new_world()
    replica = await world.replica()
    handed_out = await replica.get("read")
    before = str(replica.view.version)
    after = await held(world, replica, "desk")
    flow = watcher(world, replica)
    async with aclosing(flow(ORDERS, before)) as stream:
        assert Revocations(after, (handed_out.fingerprint,)) == await following(stream)
    async with aclosing(flow(ORDERS, str(int(after) + 1))) as stream:
        assert Revocations(after, drop_all=True) == await following(stream)


async def test_more_than_can_be_told_drops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told too little."""
    monkeypatch.setattr(watch_revocations, "MOST", 1)
    world = await new_world()
    replica = await world.replica()
    await replica.get("read")
    await replica.get("trade")
    before = str(replica.view.version)
    after = await held(world, replica, "desk")
    async with aclosing(watcher(world, replica)(ORDERS, before)) as stream:
        assert Revocations(after, drop_all=True) == await following(stream)


async def test_a_removed_grant_s_tokens_are_told_of() -> None:
    """Its provider is not known any more: whoever policy lets use the name hears."""
    world = await new_world()
    replica = await world.replica()
    await replica.get("read")
    before = str(replica.view.version)
    await replica.hold("desk", lease.Revoke(), Trail("RevokeGrant", "peer", "r1", actor="key:ops"))
    await world.remove(Kind.GRANT, "desk")
    await replica.view.catch_up(await world.store.inner.read_version())
    async with aclosing(watcher(world, replica)(ORDERS, before)) as stream:
        assert 1 == len((await following(stream)).fingerprints)


async def test_a_token_is_told_once() -> None:
    """Frozen and let go again and again, it is named once."""
    world = await new_world()
    replica = await world.replica()
    handed_out = await replica.get("read")
    before = str(replica.view.version)
    after = before
    for _ in range(2):
        after = await held(world, replica, "desk")
        await replica.hold("desk", lease.Unfreeze(), Trail("Unfreeze", "peer", "r1", actor="key:ops"))
    await replica.view.catch_up(await world.store.inner.read_version())
    async with aclosing(watcher(world, replica)(ORDERS, before)) as stream:
        told = await following(stream)
    assert ((handed_out.fingerprint,), True) == (told.fingerprints, int(told.cursor) > int(after))


async def test_a_role_has_no_tokens() -> None:
    """A caller that holds a role cannot have a token, and hears of none."""
    world = await new_world()
    replica = await world.replica()
    await replica.get("read")
    before = str(replica.view.version)
    await world.put(RoleBinding("id-role", "role", Origin.RPC, Role.AUDITOR, ("key:orders",)))
    after = await held(world, replica, "desk")
    async with aclosing(watcher(world, replica)(ORDERS, before)) as stream:
        assert Revocations(after) == await following(stream)


async def test_a_cursor_comes_though_nothing_happens() -> None:
    """Twice a minute, so that a watch that broke off goes on from near its end."""
    world = await new_world()
    replica = await world.replica()
    async with aclosing(watcher(world, replica)(ORDERS, "")) as stream:
        await following(stream)
        await world.put(policy("more", "key:x", "desk", "read"))
        await replica.view.catch_up(await world.store.inner.read_version())
        world.clock.advance(watch_revocations.AT_LEAST_EVERY)
        assert Revocations(str(replica.view.version)) == await following(stream)


async def test_watchers_at_the_same_place_ask_once() -> None:
    """A thousand watchers make one statement when something happens."""
    world = await new_world()
    replica = await world.replica()
    flow, now = watcher(world, replica), str(replica.view.version)
    streams = [flow(ORDERS, now) for _ in range(20)]
    for stream in streams:
        await following(stream)
    await held(world, replica, "desk")
    world.store.calls.clear()
    await asyncio.gather(*(anext(stream) for stream in streams))
    assert 1 == world.store.calls.count("ended_since")


@pytest.mark.parametrize("cursor", ["x", "-1", "1" * 19, " 1", "1.0"])
async def test_a_cursor_is_one_of_ours(cursor: str) -> None:
    """Anything else is refused."""
    world = await new_world()
    stream = watcher(world, await world.replica())(ORDERS, cursor)
    with pytest.raises(InvalidRequestError):
        await anext(stream)


async def test_a_store_that_is_away_ends_the_watch() -> None:
    """The watcher comes again, with its cursor."""
    world = await new_world()
    replica = await world.replica()
    before = str(replica.view.version)
    await held(world, replica, "desk")
    world.store.away = {"ended_since"}
    with pytest.raises(StoreUnavailableError):
        await anext(watcher(world, replica)(ORDERS, before))
