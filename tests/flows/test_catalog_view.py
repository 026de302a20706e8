from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.core.errors import GrantAmbiguousError, StoreUnavailableError
from broker.core.grant_state import Hold
from broker.core.models import Kind
from broker.flows import catalog_view
from tests.flows.world import PROVIDER, Replica, World, grant, policy
from tests.support.waiting import until


async def test_grant_is_read_once_until_it_changes(world: World, replica: Replica) -> None:
    """A grant stays in memory over changes of others, and is read again after its own."""
    view = replica.view
    for _ in range(3):
        assert (await view.grant("desk")) is not None
    await world.put(PROVIDER)
    await view.catch_up(await world.store.read_version())
    await view.grant("desk")
    assert 1 == world.store.calls.count("find_grant")
    await world.hold("desk")
    await view.catch_up(await world.store.read_version())
    found = await view.grant("desk")
    assert found is not None
    assert Hold.FROZEN is found.state.hold
    assert 2 == world.store.calls.count("find_grant")


async def test_too_many_changes_drop_every_grant(
    world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store does not tell which grants changed, all are read again."""
    monkeypatch.setattr("broker.adapters.memory.catalog._MANY_GRANTS", 0)
    await replica.view.grant("desk")
    await world.hold("person")
    await replica.view.catch_up(await world.store.read_version())
    await replica.view.grant("desk")
    assert 2 == world.store.calls.count("find_grant")


async def test_grant_read_while_the_version_moves_is_not_kept(world: World, replica: Replica) -> None:
    """A read that began before a change may hold the old row: it is used once by who asked, and read again."""
    read, gate = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        read.set()
        await gate.wait()

    world.store.after["find_grant"] = held
    early = asyncio.create_task(replica.view.grant("desk"))
    await read.wait()
    await world.hold("desk")
    await replica.view.catch_up(await world.store.read_version())
    late = asyncio.create_task(replica.view.grant("desk"))
    await until(lambda: world.store.calls.count("find_grant") == 2)
    gate.set()
    found = await late
    assert found is not None
    assert Hold.FROZEN is found.state.hold
    assert (await early) is not None
    again = await replica.view.grant("desk")
    assert again is not None
    assert Hold.FROZEN is again.state.hold


async def test_unknown_name_read_while_the_version_moves_is_not_kept(world: World, replica: Replica) -> None:
    """That there is no such grant is not remembered beyond the version it was read at."""
    read, gate = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        read.set()
        await gate.wait()

    world.store.after["find_grant"] = held
    early = asyncio.create_task(replica.view.grant("late"))
    await read.wait()
    await world.put(grant("late"))
    await replica.view.catch_up(await world.store.read_version())
    gate.set()
    assert (await early) is None
    assert (await replica.view.grant("late")) is not None


async def test_herd_reads_the_catalogue_once(world: World, replica: Replica) -> None:
    """All who learn of a new version at once wait for one load."""
    await world.put(PROVIDER)
    world.store.calls.clear()
    version = await world.store.inner.read_version()
    await asyncio.gather(*(replica.view.catch_up(version) for _ in range(50)))
    assert 1 == world.store.calls.count("load_catalog")
    await replica.view.catch_up(version - 1)
    assert 1 == world.store.calls.count("load_catalog")


async def test_failed_read_is_told_to_each_and_forgotten(world: World, replica: Replica) -> None:
    """Whoever waits for a read that fails gets an error of its own; the next one reads again."""
    world.store.away.add("find_grant")
    errors = await asyncio.gather(*(replica.view.grant("desk") for _ in range(3)), return_exceptions=True)
    assert [StoreUnavailableError] * 3 == [type(caught) for caught in errors]
    assert 3 == len({id(caught) for caught in errors})
    world.store.away.clear()
    assert (await replica.view.grant("desk")) is not None


async def test_reader_that_hangs_up_takes_nothing_from_others(world: World, replica: Replica) -> None:
    """One read serves all who ask, the first may leave; a failure nobody waits for leaves no warning."""
    gate = asyncio.Event()
    world.store.before["find_grant"] = gate.wait  # type: ignore[assignment]  # what it returns is not looked at
    first, second = (asyncio.create_task(replica.view.grant("desk")) for _ in range(2))
    await until(lambda: "find_grant" in world.store.calls)
    first.cancel()
    await asyncio.wait([first])
    gate.set()
    assert (await second) is not None
    gate.clear()
    alone = asyncio.create_task(replica.view.grant("person"))
    await until(lambda: world.store.calls.count("find_grant") == 2)
    alone.cancel()
    await asyncio.wait([alone])
    world.store.away.add("find_grant")
    gate.set()
    await until(lambda: not replica.view._reading)
    world.store.away.clear()
    gate.clear()
    ended = asyncio.create_task(replica.view.grant("late"))
    await until(lambda: world.store.calls.count("find_grant") == 3)
    (reading,) = replica.view._reading.values()
    reading.cancel()
    await asyncio.wait([ended])
    assert {} == replica.view._reading


async def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grant not asked for the longest is forgotten first; unknown names have a place of their own."""
    monkeypatch.setattr(catalog_view, "MAX_GRANTS", 2)
    await world.put(grant("third"))
    view = (await world.replica()).view
    for name in ("desk", "person", "desk", "third", *(f"no-{number}" for number in range(5)), "desk"):
        await view.grant(name)
    world.store.calls.clear()
    await view.grant("desk")
    await view.grant("no-4")
    assert [] == world.store.calls
    await view.grant("person")
    await view.grant("no-0")
    assert 2 == world.store.calls.count("find_grant")


async def test_grants_that_match_a_caller_are_read_once_per_version(world: World) -> None:
    """Which grants match is read once for all who ask, and again after any change."""
    await world.put(policy("reports", "key:reports", "de*", "read"))
    replica = await world.replica()
    await asyncio.gather(*(replica.get(caller="reports", grant="") for _ in range(10)))
    await replica.get(caller="reports", grant="")
    assert 1 == world.store.calls.count("match_grants")
    await world.put(grant("derby"))
    await replica.view.catch_up(await world.store.read_version())
    with pytest.raises(GrantAmbiguousError):
        await replica.get(caller="reports", grant="")
    assert 2 == world.store.calls.count("match_grants")


async def test_poll_follows_the_store(world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle process learns of changes by itself, and of those it missed while the store was away."""
    monkeypatch.setattr(catalog_view, "POLL_SECONDS", 0.001)
    polling = asyncio.create_task(replica.view.poll())
    world.store.away.add("*")
    await world.put(replace(PROVIDER, frozen=True))
    before = len(world.store.calls)
    await until(lambda: len(world.store.calls) > before + 3)
    world.store.away.clear()
    await until(lambda: replica.view.catalog.providers["aries"].frozen)
    await world.remove(Kind.POLICY, "orders")
    await until(lambda: len(replica.view.catalog.policies) == 1)
    polling.cancel()
    await asyncio.wait([polling])
    assert polling.cancelled()
