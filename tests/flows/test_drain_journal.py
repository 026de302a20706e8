"""What a process before this one received and could not store: given to the store, however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.adapters.memory.journal import MemoryJournal
from broker.core import lease
from broker.core.audit import Action, AuditEvent
from broker.core.errors import StoreUnavailableError
from broker.core.grant_state import Health, Hold, Phase, is_new, to_revoke
from broker.core.secret import Secret
from broker.flows import drain_journal
from broker.ports import ReceivedToken
from tests.contract.test_journal import all_places
from tests.flows.test_keep_received import SECOND, received_by
from tests.flows.world import FIRST, TIME, World
from tests.support.times import TIMES
from tests.support.waiting import until

RECORD = AuditEvent(TIME, Action.GRANT_FREEZE)


async def left_behind(received: ReceivedToken) -> MemoryJournal:
    """Return the journal that a process left, as the next one finds it."""
    journal = MemoryJournal()
    place = journal.reserve()
    assert place is not None
    await journal.write(place, received)
    return journal.reopened()


def drained_at(world: World, owner: str = "next") -> int | None:
    """Return when a process said that its journal was empty."""
    replica = world.store.inner._replicas.get(owner)
    return None if replica is None else replica.drained_at


async def test_an_empty_journal_is_said_to_be_empty(world: World) -> None:
    """Once, by a process that is known: others wait for that word before they probe."""
    replica = await world.replica("next")
    await replica.drain()
    assert ["beat", "drained"] == world.store.calls[-2:]
    assert world.clock.boottime() * 1000 == drained_at(world)
    calls = len(world.store.calls)
    await replica.drain()
    assert calls == len(world.store.calls)


async def test_what_was_found_is_stored_and_the_grant_serves(world: World) -> None:
    """It lands as if its owner had stored it; the place is free, the store knows that the journal is empty."""
    journal = await left_behind(await received_by(world))
    replica = await world.replica("next", journal)
    assert drained_at(world) is None
    await replica.drain()
    assert ({}, [1, 0], SECOND) == (journal.entries, world.counted.journal, await world.refresh_token("person"))
    assert drained_at(world) is not None
    world.endpoint.live = SECOND
    world.clock.advance(TIMES.lease / 1000)
    assert "provider" == (await replica.get("read", "trade", grant="person")).source
    assert [SECOND] == [request["refresh_token"] for request in world.endpoint.requests]


@pytest.mark.parametrize("step", ["keep_and_land", "refresh_token", "beat", "drained"])
async def test_a_store_that_is_away_is_tried_again(world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running broker goes on until the store has the token and knows that the journal is empty, and not before."""
    monkeypatch.setattr(drain_journal, "TRY_AGAIN", 0.001)
    journal = await left_behind(await received_by(world))
    replica = await world.replica("next", journal)
    world.store.away.add(step)
    await replica.drain()
    assert ((step in {"keep_and_land", "refresh_token"}), None) == (journal.held == 1, drained_at(world))
    draining = asyncio.create_task(replica.drain.for_ever())
    tries = world.store.calls.count(step)
    await until(lambda: world.store.calls.count(step) > tries + 1)
    assert ([], None) == (world.counted.refused, drained_at(world))
    world.store.away.clear()
    await until(lambda: drained_at(world) is not None)
    assert (0, SECOND, False) == (journal.held, await world.refresh_token("person"), draining.done())
    draining.cancel()


async def test_what_cannot_be_stored_holds_up_nothing_else(world: World) -> None:
    """Operators are told of a token the store refuses for good; it stays, the others are stored, nothing is said."""
    refused = await received_by(world)
    journal = MemoryJournal()
    for entry in (refused, replace(refused, grant_id="id-desk")):
        place = journal.reserve()
        assert place is not None
        await journal.write(place, entry)
    journal = journal.reopened()
    replica = await world.replica("next", journal)
    failures = 1

    async def refuse() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreUnavailableError("refused", cause="constraint")

    world.store.before["keep_and_land"] = refuse
    await replica.drain()
    assert ([("drain", "constraint")], [refused]) == (world.counted.refused, list(journal.entries.values()))
    assert drained_at(world) is None


async def test_a_journal_that_cannot_be_emptied_is_not_said_to_be_empty(world: World) -> None:
    """Its disk may hold the token still; it is tried again, and storing it twice changes nothing."""
    journal = await left_behind(await received_by(world))
    replica = await world.replica("next", journal)
    journal.broken = True
    await replica.drain()
    stored = world.state("person")
    assert (1, 1, None) == (journal.held, world.counted.journal_failures, drained_at(world))
    journal.broken = False
    await replica.drain()
    assert (0, stored, True) == (journal.held, world.state("person"), drained_at(world) is not None)
    assert 100 == len(all_places(journal))


async def test_a_store_that_forgot_is_not_believed(world: World) -> None:
    """An entry goes only after what was stored was read back; operators are told."""
    journal = await left_behind(await received_by(world))
    replica = await world.replica("next", journal)
    before = world.state("person")

    async def forget() -> None:
        inner = world.store.inner
        inner._grants["id-person"] = replace(inner._grants["id-person"], state=before)
        inner._sealed.pop(("id-person", world.keyring.fingerprint(Secret(SECOND))), None)

    world.store.before["refresh_token"] = forget
    await replica.drain()
    assert ([("drain", "not_kept")], 1, None) == (world.counted.refused, journal.held, drained_at(world))


# --- what happened to the grant meanwhile ----------------------------------------------------------------------------


async def sent_again(world: World) -> None:
    """Somebody redeems the grant now."""
    await world.store.inner.apply("id-person", lease.Unknown(2))
    world.store.inner._step("id-person", lease.Probe("other", settled=True))
    state = world.state("person")
    world.store.inner._step("id-person", lease.Sent(state.attempt, state.generation, None))
    assert Phase.SENT is world.state("person").phase


async def moved_on(world: World) -> None:
    """The grant got another token since."""
    await world.store.inner.apply("id-person", lease.Unknown(2))
    state = world.state("person")
    land = lease.Land(state.attempt, state.generation, state.consent, "another")
    sealed = world.store.inner._sealed["id-person", world.keyring.fingerprint(Secret(FIRST))].sealed
    await world.store.inner.keep_and_land("id-person", land, sealed, RECORD)


async def quarantined(world: World) -> None:
    """The provider refused the token that was sent once more."""
    state = world.state("person")
    await world.store.inner.apply("id-person", lease.Refused(state.attempt, state.generation, state.consent))
    assert Health.QUARANTINED is world.state("person").health


async def revoked(world: World) -> None:
    """Operators ended the grant."""
    await world.store.inner.hold("id-person", lease.Revoke(), RECORD)


async def consented_anew(world: World) -> None:
    """A person logged in anew."""
    world.clock.advance(1)
    await world.consent("person", "canary-rt-anew")
    world.clock.advance(1)


async def frozen(world: World) -> None:
    """Operators hold the grant."""
    await world.store.inner.hold("id-person", lease.Freeze(), RECORD)


async def unknown(world: World) -> None:
    """Others found the grant in doubt."""
    await world.store.inner.apply("id-person", lease.Unknown(2))


@pytest.mark.parametrize(
    ("meanwhile", "current", "new", "told"),
    [
        (unknown, True, False, False),
        (frozen, True, False, False),
        (quarantined, True, False, False),
        (sent_again, False, True, False),
        (moved_on, False, True, False),
        (revoked, False, True, True),
        (consented_anew, False, False, True),
    ],
)
async def test_a_late_token_is_kept_whatever_became_of_its_grant(
    world: World, meanwhile: Callable[[World], object], current: bool, new: bool, told: bool
) -> None:
    """It becomes current where that is safe; else it is the next to be adopted, or the provider is to be told of it."""
    received = await received_by(world)
    await meanwhile(world)  # type: ignore[misc]  # each is a coroutine function
    journal = await left_behind(received)
    await (await world.replica("next", journal)).drain()
    state = world.state("person")
    (kept,) = [token for token in state.tokens if token.fingerprint == received.land.fingerprint]
    assert (current, new, told, 0) == (
        state.current == kept.fingerprint,
        is_new(state, kept),
        kept in to_revoke(state),
        journal.held,
    )


def remove(world: World) -> None:
    """Let the grant be gone, as one is that was revoked and then removed."""
    del world.store.inner._grants["id-person"]


async def test_a_token_whose_grant_was_removed_is_kept_to_be_revoked(world: World) -> None:
    """The entry goes, since the store has it."""
    journal = await left_behind(await received_by(world))
    remove(world)
    await (await world.replica("next", journal)).drain()
    name = world.keyring.fingerprint(Secret(SECOND))
    assert (0, True) == (journal.held, await world.store.inner.refresh_token("id-person", name) is not None)


async def test_a_token_of_a_removed_grant_that_is_wiped(world: World) -> None:
    """There is nothing to be read back, and nothing to be kept: the entry goes."""
    journal = await left_behind(await received_by(world))
    remove(world)

    async def wipe() -> None:
        world.store.inner._sealed.clear()

    world.store.before["refresh_token"] = wipe
    await (await world.replica("next", journal)).drain()
    assert (0, []) == (journal.held, world.counted.refused)


async def test_a_token_the_provider_was_told_of_meanwhile(world: World) -> None:
    """It was stored before, revoked and wiped: the entry goes, the token does not come back."""
    received = await received_by(world)
    await world.store.inner.keep_and_land("id-person", received.land, received.sealed, received.event)
    await world.store.inner.hold("id-person", lease.Revoke(), RECORD)
    await world.store.inner.apply("id-person", lease.TokenRevoked(received.land.fingerprint))
    before = [token for token in world.state("person").tokens if token.revoked_at is not None]
    journal = await left_behind(received)
    await (await world.replica("next", journal)).drain()
    after = [token for token in world.state("person").tokens if token.revoked_at is not None]
    assert (Hold.REVOKING, before, 0) == (world.state("person").hold, after, journal.held)


@pytest.mark.parametrize("announce", [True, False])
async def test_others_hear_of_it_as_they_would_have(world: World, announce: bool) -> None:
    """Where a refresh ends older access tokens, a landing out of the journal tells every replica too."""
    journal = await left_behind(replace(await received_by(world), announce=announce))
    replica = await world.replica("next", journal)
    version = await world.store.inner.read_version()
    await replica.drain()
    assert announce == (await world.store.inner.read_version() > version)


# --- the end of the process ------------------------------------------------------------------------------------------


async def test_the_end_waits_for_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else can give it the token."""
    monkeypatch.setattr(drain_journal, "TRY_AGAIN", 0.001)
    journal = await left_behind(await received_by(world))
    replica = await world.replica("next", journal)
    world.store.away.add("*")
    closing = asyncio.create_task(replica.drain.aclose(20))
    await until(lambda: world.store.calls.count("keep_and_land") > 2)
    assert not closing.done()
    world.store.away.clear()
    await closing
    assert (0, SECOND) == (journal.held, await world.refresh_token("person"))


async def test_the_end_takes_no_longer_than_the_store(world: World) -> None:
    """With the token stored there is nothing to wait for."""
    journal = await left_behind(await received_by(world))
    replica = await world.replica("next", journal)
    async with asyncio.timeout(1):
        await replica.drain.aclose(1e9)
    assert 0 == journal.held


async def test_the_end_does_not_wait_for_ever(world: World) -> None:
    """After its grace the token stays in the journal, for the next process on the volume; an empty one takes none."""
    journal = await left_behind(await received_by(world))
    replica, empty = await world.replica("next", journal), await world.replica("empty")
    world.store.away.add("*")
    async with asyncio.timeout(1):
        await replica.drain.aclose(0.01)
    assert 1 == journal.held
    await empty.drain.aclose(1e9)
