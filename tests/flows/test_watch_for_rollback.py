"""A store that was rolled back: its spent refresh tokens are not sent."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters.evidence_file import FileEvidence, open_evidence
from broker.core.audit import Action
from broker.core.errors import (
    ConsentRequiredError,
    GrantHeldError,
    GrantUncertainError,
    InvalidRequestError,
    NotFoundError,
)
from broker.core.evidence import Landmark, Position
from broker.flows.release_suspect import ReleaseSuspect
from broker.flows.trail import Trail
from broker.ports import EvidenceError, ReplyLostError
from tests.flows.world import Replica, World, new_world

WHOLE = ("read", "trade")


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[FileEvidence]:
    """A place of its own."""
    opened = open_evidence(tmp_path)
    yield opened
    opened.close()


def backed_up(world: World) -> dict[str, object]:
    """Return a copy of all that is stored."""
    return {name: copy.deepcopy(value) for name, value in vars(world.store.inner).items() if name.startswith("_g")}


def restored(world: World, backup: dict[str, object]) -> None:
    """Put a copy in place of what is stored."""
    vars(world.store.inner).update(backup)


async def rolled_back_world(evidence: FileEvidence) -> tuple[World, Replica]:
    """Return a world restored from a backup of before its grant's last redeem, and a replica started since."""
    world = await new_world()
    first = await world.replica("a", evidence=evidence)
    await first.get(*WHOLE, grant="person")
    await first.rollback.look()
    backup = backed_up(world)
    world.clock.advance(3600)
    await first.get(*WHOLE, grant="person")
    await first.get()
    await first.rollback.look()
    restored(world, backup)
    world.clock.advance(3600)
    return world, await world.replica("b", evidence=evidence)


async def test_a_grant_redeemed_since_the_backup_is_held(evidence: FileEvidence) -> None:
    """Its spent token is not sent; other grants go on; operators are told, once."""
    world, replica = await rolled_back_world(evidence)
    assert 1 == await replica.rollback.compare()
    sent = len(world.endpoint.requests)
    with pytest.raises(GrantHeldError):
        await replica.get(*WHOLE, grant="person")
    await replica.get()
    assert sent + 1 == len(world.endpoint.requests)
    assert 0 == await replica.rollback.compare()
    assert [1] == world.counted.suspects
    events = [event.action for event in world.store.inner._outbox.values()]
    assert 1 == events.count(Action.GRANT_SUSPECT)


async def test_nothing_is_held_without_a_rollback(evidence: FileEvidence) -> None:
    """A start after a crash, or after redeems that were not noted, finds nothing."""
    world = await new_world()
    replica = await world.replica("a", evidence=evidence)
    await replica.get(*WHOLE, grant="person")
    await replica.rollback.look()
    world.clock.advance(3600)
    await replica.get(*WHOLE, grant="person")
    again = await world.replica("b", evidence=evidence)
    assert 0 == await again.rollback.compare()


async def test_a_send_that_did_not_land_is_evidence_too(evidence: FileEvidence) -> None:
    """A database that forgot a send would send the token once more."""
    world = await new_world()
    replica = await world.replica("a", evidence=evidence)
    backup = backed_up(world)
    world.endpoint.answers = [ReplyLostError("reset")]
    with pytest.raises(GrantUncertainError):
        await replica.get(*WHOLE, grant="person")
    await replica.rollback.look()
    restored(world, backup)
    assert 1 == await replica.rollback.compare()


async def test_a_store_that_goes_back_is_noticed_while_the_broker_runs(evidence: FileEvidence) -> None:
    """After a failover that lost commits its position is not after where it was."""
    world = await new_world()
    replica = await world.replica("a", evidence=evidence)
    backup = backed_up(world)
    await replica.get(*WHOLE, grant="person")
    await replica.rollback.look()
    restored(world, backup)
    await replica.rollback.look()
    assert [1] == world.counted.suspects


async def test_what_cannot_be_noted_now_is_noted_later(evidence: FileEvidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk stops no redeem; once there is room everything is there."""
    world = await new_world()
    replica = await world.replica("a", evidence=evidence)
    with monkeypatch.context() as broken:

        async def refuse(*_: object) -> None:
            raise EvidenceError("no space left")

        broken.setattr(evidence, "note", refuse)
        await replica.get(*WHOLE, grant="person")
        await replica.rollback.look()
    assert (1, {}) == (world.counted.evidence_failures, evidence.landmarks())
    await replica.rollback.look()
    state = world.state("person")
    assert Landmark(state.attempt, state.generation) == evidence.landmarks()["id-person"]
    assert Position("memory", 0, 2) == evidence.position()


async def test_a_store_that_is_away_is_asked_later(evidence: FileEvidence) -> None:
    """Nothing is lost meanwhile."""
    world = await new_world()
    replica = await world.replica("a", evidence=evidence)
    await replica.get(*WHOLE, grant="person")
    world.store.away = {"position"}
    await replica.rollback.look()
    assert {} == evidence.landmarks()
    world.store.away = set()
    await replica.rollback.look()
    assert {"id-person"} == set(evidence.landmarks())


# --- what operators do -----------------------------------------------------------------------------------------------


def release(world: World) -> ReleaseSuspect:
    """Return the flow."""
    store = world.store
    return ReleaseSuspect(grants=store, store=store, clock=world.clock)


def trail() -> Trail:
    """Return an operator's trail."""
    return Trail("ReleaseSuspect", "peer", "r1", actor="key:ops")


async def test_a_suspect_is_listed_with_what_is_missing(evidence: FileEvidence) -> None:
    """What the store knows, and what was noted."""
    world, replica = await rolled_back_world(evidence)
    await replica.rollback.compare()
    (suspect,) = await release(world).list("")
    assert ("person", Landmark(2, 2), Landmark(3, 3)) == (suspect.grant, suspect.known, suspect.evidence)


async def test_a_released_grant_is_not_held_again(evidence: FileEvidence) -> None:
    """Its numbers go on from the evidence, so that the next start finds nothing."""
    world, replica = await rolled_back_world(evidence)
    await replica.rollback.compare()
    await release(world)("person", trail(), abandon=False)
    assert 0 == await (await world.replica("c", evidence=evidence)).rollback.compare()
    world.endpoint.live = "canary-rt-1"
    await replica.view.catch_up(await world.store.inner.read_version())
    assert "provider" == (await replica.get(*WHOLE, grant="person")).source


async def test_an_abandoned_token_is_never_sent(evidence: FileEvidence) -> None:
    """The grant wants to be authorized anew."""
    world, replica = await rolled_back_world(evidence)
    await replica.rollback.compare()
    await release(world)("person", trail(), abandon=True)
    await replica.view.catch_up(await world.store.inner.read_version())
    sent = len(world.endpoint.requests)
    with pytest.raises(ConsentRequiredError):
        await replica.get(*WHOLE, grant="person")
    await world.consent("person", "canary-rt-new")
    world.endpoint.live = "canary-rt-new"
    await replica.view.catch_up(await world.store.inner.read_version())
    assert "provider" == (await replica.get(*WHOLE, grant="person")).source
    assert ["canary-rt-new"] == [request["refresh_token"] for request in world.endpoint.requests[sent:]]


async def test_what_is_no_suspect_is_not_released(evidence: FileEvidence) -> None:
    """An unknown grant, and one that is not held."""
    world, _ = await rolled_back_world(evidence)
    with pytest.raises(NotFoundError):
        await release(world)("nobody", trail(), abandon=False)
    with pytest.raises(InvalidRequestError):
        await release(world)("person", trail(), abandon=False)
    with pytest.raises(InvalidRequestError):
        await release(world).list("\x00")
