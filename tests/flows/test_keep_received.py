"""A received refresh token and a store that is slow, away, or refuses it; a journal that is full or broken."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from broker.adapters.memory.journal import MemoryJournal
from broker.core import lease
from broker.core.audit import Action, AuditEvent
from broker.core.errors import BrokerError, GrantUncertainError, OverloadedError, StoreUnavailableError
from broker.core.grant_state import GrantState, Phase, RedeemTimes
from broker.core.models import GrantType
from broker.core.sealing import refresh_token_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows import keep_received
from broker.flows.keep_received import KeepReceived
from broker.ports import ReceivedToken
from tests.flows.world import FIRST, PROVIDER, TIME, World, crash, grant, policy
from tests.support.times import TIMES
from tests.support.waiting import until

NEVER = replace(TIMES, journal_after=10**9)
AT_ONCE = replace(TIMES, journal_after=0)
SECOND = "canary-rt-second"


@dataclass
class Desk:
    """A grant whose token was sent, what the reply brought, and the journal there is for it."""

    world: World
    journal: MemoryJournal
    received: ReceivedToken
    troubles: list[BrokerError]

    def keeping(self, times: RedeemTimes, place: int) -> asyncio.Task[GrantState]:
        """Begin to keep what was received."""
        store = self.world.store
        keep = KeepReceived(grants=store, logins=store, journal=self.journal, telemetry=self.world.counted, times=times)
        return asyncio.create_task(keep(self.received, place, self.troubles.append))

    def place(self) -> int:
        """Take a place."""
        place = self.journal.reserve()
        assert place is not None
        return place


async def received_by(world: World, token: str = SECOND) -> ReceivedToken:
    """Let a process send the grant's token and return what the reply brought it."""
    await world.send_and_vanish("person")
    state = world.state("person")
    binding = refresh_token_binding("id-person", state.consent, state.attempt, origin_of(PROVIDER.token_url))
    land = lease.Land(state.attempt, state.generation, state.consent, world.keyring.fingerprint(Secret(token)))
    sealed = await world.keyring.seal(Secret(token), binding)
    return ReceivedToken("id-person", land, sealed, AuditEvent(TIME, Action.GRANT_REDEEM), announce=False)


@pytest.fixture
async def desk(world: World) -> Desk:
    """The world at the moment a reply came."""
    return Desk(world, MemoryJournal(), await received_by(world), [])


async def test_a_store_that_answers_at_once(desk: Desk) -> None:
    """The journal is not written to, and the place is free again."""
    place = desk.place()
    state = await desk.keeping(TIMES, place)
    assert (desk.received.land.fingerprint, Phase.LANDED) == (state.current, state.phase)
    assert ([], 0, []) == (desk.world.counted.journal, desk.journal.held, desk.troubles)
    assert SECOND == await desk.world.refresh_token("person")


async def test_the_first_failure_brings_the_token_into_the_journal(desk: Desk) -> None:
    """At once, while the store is asked on and on; it goes out when the store has it, and everybody is told."""
    desk.world.store.away.add("keep_and_land")
    place = desk.place()
    keeping = desk.keeping(NEVER, place)
    await until(lambda: len(desk.troubles) > 2)
    assert {place: desk.received} == desk.journal.entries
    assert FIRST == await desk.world.refresh_token("person")
    desk.world.store.away.clear()
    assert desk.received.land.fingerprint == (await keeping).current
    assert ({}, [1, 0]) == (desk.journal.entries, desk.world.counted.journal)


async def test_a_slow_store_is_not_waited_for(desk: Desk) -> None:
    """After its time the token is in the journal as well; the one write under way is the only one."""
    answer = asyncio.Event()
    desk.world.store.before["keep_and_land"] = answer.wait  # type: ignore[assignment]  # what it returns is not looked at
    keeping = desk.keeping(AT_ONCE, desk.place())
    await until(lambda: desk.journal.held == 1)
    answer.set()
    assert desk.received.land.fingerprint == (await keeping).current
    assert ([], 0, 1) == (desk.troubles, desk.journal.held, desk.world.store.calls.count("keep_and_land"))


async def test_a_quarter_of_a_second_is_the_time(desk: Desk) -> None:
    """A store that answers within it leaves the journal alone."""
    loop = asyncio.get_running_loop()
    hanging = asyncio.Event()
    desk.world.store.before["keep_and_land"] = hanging.wait  # type: ignore[assignment]  # what it returns is not looked at
    began = loop.time()
    keeping = desk.keeping(TIMES, desk.place())
    await until(lambda: desk.journal.held == 1)
    assert 0.25 <= loop.time() - began
    hanging.set()
    await keeping


async def test_a_broken_journal_changes_nothing_else(desk: Desk) -> None:
    """The store is asked on and on; operators are told that the journal did not take the token."""
    desk.journal.broken = True
    desk.world.store.away.add("keep_and_land")
    keeping = desk.keeping(TIMES, desk.place())
    await until(lambda: desk.world.counted.journal_failures == 1)
    desk.world.store.away.clear()
    assert desk.received.land.fingerprint == (await keeping).current
    assert ([], 1) == (desk.world.counted.journal, desk.world.counted.journal_failures)


async def test_an_entry_that_cannot_be_removed_stays(desk: Desk) -> None:
    """Its place too; the next process finds it, and storing it once more changes nothing."""
    desk.world.store.away.add("keep_and_land")
    place = desk.place()
    keeping = desk.keeping(TIMES, place)
    await until(lambda: desk.journal.held == 1)
    desk.journal.broken = True
    desk.world.store.away.clear()
    before = await keeping
    desk.journal.release(place)
    assert ([1, 1], 1) == (desk.world.counted.journal, desk.world.counted.journal_failures)
    journal = desk.journal.reopened()
    await (await desk.world.replica("next", journal)).drain()
    after = desk.world.state("person")
    assert (before.current, before.generation, before.tokens, 0) == (
        after.current,
        after.generation,
        after.tokens,
        journal.held,
    )


async def test_a_store_that_refuses_for_good_is_asked_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators are told and have to act; the token is in the journal until they did."""
    monkeypatch.setattr(keep_received, "ASK_AGAIN", 0.001)

    async def refuse() -> None:
        raise StoreUnavailableError("refused", cause="constraint")

    desk.world.store.before["keep_and_land"] = refuse
    keeping = desk.keeping(NEVER, desk.place())
    await until(lambda: len(desk.world.counted.refused) > 2)
    assert ({("keep", "constraint")}, 1) == (set(desk.world.counted.refused), desk.journal.held)
    desk.world.store.before.clear()
    assert desk.received.land.fingerprint == (await keeping).current
    assert 0 == desk.journal.held


async def test_a_mistake_of_ours_loses_no_token(desk: Desk) -> None:
    """What is not an error of the store is raised; the token is in the journal for a process that makes it no more."""

    async def fail() -> None:
        msg = "a bug"
        raise RuntimeError(msg)

    desk.world.store.before["keep_and_land"] = fail
    with pytest.raises(RuntimeError, match="a bug"):
        await desk.keeping(TIMES, desk.place())
    desk.world.store.before.clear()
    await (await desk.world.replica("next", desk.journal.reopened())).drain()
    assert SECOND == await desk.world.refresh_token("person")


async def test_a_full_journal_lets_nothing_be_sent(world: World) -> None:
    """A redeem needs a place first; without one it is shed, the grant as it was, until there is room again."""
    await world.put(grant("other", GrantType.REFRESH_TOKEN), policy("other", "key:orders", "other", "read trade"))
    await world.consent("other", "canary-rt-other")
    replica = await world.replica("a", MemoryJournal(places=1))
    world.endpoint.hold = asyncio.Event()
    first = asyncio.create_task(replica.get("read", "trade", grant="person"))
    await until(lambda: len(world.endpoint.requests) == 1)
    with pytest.raises(OverloadedError) as shed:
        await replica.get("read", "trade", grant="other")
    assert ("journal_full", 1.0) == (shed.value.cause, shed.value.retry_after)
    state = world.state("other")
    assert (Phase.IDLE, None, 0) == (state.phase, state.first_sent_at, state.failures)
    world.endpoint.hold.set()
    await first
    world.endpoint.live = "canary-rt-other"
    assert "provider" == (await replica.get("read", "trade", grant="other")).source


@pytest.mark.parametrize("volume_survives", [True, False])
async def test_a_process_that_ends_before_the_store_is_back(world: World, volume_survives: bool) -> None:
    """The next process on the volume stores the token and serves; without the volume the grant stays in doubt."""
    journal = MemoryJournal()
    replica = await world.replica("a", journal)

    async def go_away() -> None:
        world.store.away.add("*")

    world.store.before["keep_and_land"] = go_away
    with pytest.raises(StoreUnavailableError):
        await replica.get("read", "trade", grant="person")
    await until(lambda: journal.held == 1)
    await crash()
    world.store.away.clear()
    world.store.before.clear()
    world.clock.advance(TIMES.lease / 1000)
    after = await world.replica("b", journal.reopened() if volume_survives else None)
    await after.drain()
    if volume_survives:
        assert "provider" == (await after.get("read", "trade", grant="person")).source
        assert [FIRST, "canary-rt-1"] == [request["refresh_token"] for request in world.endpoint.requests]
    else:
        with pytest.raises(GrantUncertainError):
            await after.get("read", "trade", grant="person")
        assert [FIRST] == [request["refresh_token"] for request in world.endpoint.requests]
