"""Proving what a provider does with `scope` on a refresh, and redeeming at once after an import."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.core.audit import Action
from broker.core.errors import (
    GrantConflictError,
    GrantHeldError,
    GrantQuarantinedError,
    GrantUncertainError,
    InvalidRequestError,
    NotFoundError,
    ScopeNotGrantedError,
    StoreUnavailableError,
)
from broker.core.lease import Take
from broker.core.models import AbsentScope, GrantType, Kind, Narrowing, NarrowingProfile, NarrowingProof, Provider
from broker.core.oauth.rfc6749 import HttpReply
from broker.flows.trail import Trail
from tests.flows.world import ALL, FIRST, NARROWING, PROVIDER, Replica, World, error, grant, jwt, reply, tokens
from tests.support.waiting import until

Answer = Callable[[dict[str, str]], HttpReply]
ALL_WIRE, ONE = " ".join(ALL), ALL[0]


def granting(scope: str | None, **members: object) -> Answer:
    """Answer a refresh with these scopes and a new refresh token."""
    return lambda sent: tokens(scope=scope, refresh_token=f"{sent['refresh_token']}+", **members)


def asked_by_admin() -> Trail:
    """Return the trail of an operator's call."""
    return Trail("ProveNarrowing", "peer", "r1", actor="key:admin")


def refusing(_: dict[str, str]) -> HttpReply:
    """Refuse the scopes."""
    return error("invalid_scope")


@pytest.mark.parametrize(
    ("answers", "profile", "steps"),
    [
        ([granting(ONE), granting(ALL_WIRE)], NarrowingProfile.ADDITIONAL, 2),
        ([granting(ONE), granting(ONE)], NarrowingProfile.STICKY, 2),
        ([granting(ONE), refusing], NarrowingProfile.STICKY, 2),
        ([granting(ONE), granting(None)], NarrowingProfile.UNPROVED, 2),
        ([granting(ALL_WIRE)], NarrowingProfile.IGNORED, 1),
        ([granting(f"{ALL_WIRE} news")], NarrowingProfile.IGNORED, 1),
        ([granting(f"{ALL_WIRE} more")], NarrowingProfile.UNPROVED, 1),
        ([granting(" ".join(ALL[:2]))], NarrowingProfile.UNPROVED, 1),
        ([granting(None)], NarrowingProfile.UNPROVED, 1),
        ([granting(ONE, access_token=jwt(scope=ALL_WIRE))], NarrowingProfile.IGNORED, 1),
        ([granting(ALL[1], access_token=jwt(scope=ONE))], NarrowingProfile.UNPROVED, 1),
        ([refusing], NarrowingProfile.UNPROVED, 1),
    ],
)
@pytest.mark.parametrize("absent", AbsentScope)
async def test_profile_is_what_was_seen(
    world: World, answers: list[Answer], profile: NarrowingProfile, steps: int, absent: AbsentScope
) -> None:
    """One scope, then the whole set again; only what the provider states counts, whatever silence means elsewhere."""
    await world.put(replace(PROVIDER, absent_scope=absent))
    replica = await world.replica()
    world.endpoint.answers = list(answers)
    proof = await replica.prove_narrowing("person", asked_by_admin())
    assert (profile, steps) == (proof.profile, len(proof.observations))
    assert [ONE, ALL_WIRE][:steps] == [request["scope"] for request in world.endpoint.requests]
    assert "more" not in " ".join(proof.observations)
    pending = [pending.event for pending in await world.store.inner.undelivered(100)]
    (event,) = [event for event in pending if event.action is Action.PROVIDER_PROVE]
    assert ("key:admin", "person", profile.value) == (event.actor, event.grant, event.detail)
    noted = (await world.store.inner.load_catalog()).providers["aries"]
    seen = None if profile is NarrowingProfile.UNPROVED else NarrowingProof(profile, PROVIDER.token_url)
    assert replace(PROVIDER, absent_scope=absent, proof=seen) == noted


async def test_what_is_proved_counts_from_then_on(world: World) -> None:
    """A provider configured to narrow is sent a scope once it was seen to narrow, and not before."""
    await world.put(replace(PROVIDER, narrowing=NarrowingProfile.ADDITIONAL))
    replica = await world.replica()
    with pytest.raises(ScopeNotGrantedError, match="cannot be narrowed"):
        await replica.get("read", grant="person")
    await replica.prove_narrowing("person", asked_by_admin())
    await replica.view.catch_up(await world.store.read_version())
    assert Narrowing.NARROWED is (await replica.get("read", grant="person")).narrowing
    world.endpoint.answers = [granting(ONE), granting(ONE)]
    await replica.prove_narrowing("person", asked_by_admin())
    await replica.view.catch_up(await world.store.read_version())
    with pytest.raises(ScopeNotGrantedError, match="cannot be narrowed"):
        await replica.get("trade", grant="person")


@pytest.mark.parametrize("moved", [NARROWING, replace(NARROWING, token_url="https://id.example/elsewhere")])
async def test_what_nobody_could_tell_leaves_the_proof_there_was(world: World, moved: Provider) -> None:
    """A proof that came to nothing takes none away; one noted for another endpoint counts for nothing."""
    await world.put(moved)
    replica = await world.replica()
    world.endpoint.answers = [refusing]
    await replica.prove_narrowing("person", asked_by_admin())
    assert moved == (await world.store.inner.load_catalog()).providers["aries"]
    assert (moved is NARROWING) == moved.narrows


async def test_a_provider_changed_meanwhile_keeps_its_change(world: World, replica: Replica) -> None:
    """Only the proof is noted, at the endpoint it was made at; a provider of the same name that is new is another."""
    renewed = replace(PROVIDER, default_expires_in=77, token_url="https://id.example/new")

    async def change() -> None:
        world.store.before.clear()
        await world.put(renewed)

    world.store.before["write_objects"] = change
    await replica.prove_narrowing("person", asked_by_admin())
    seen = NarrowingProof(NarrowingProfile.ADDITIONAL, PROVIDER.token_url)
    assert replace(renewed, proof=seen) == (await world.store.inner.load_catalog()).providers["aries"]
    await world.remove(Kind.PROVIDER, "aries")
    await world.put(replace(PROVIDER, id="p2"))
    await replica.prove_narrowing("person", asked_by_admin())
    assert (await world.store.inner.load_catalog()).providers["aries"].proof is None


async def test_proof_does_not_use_a_token_that_is_there(world: World, replica: Replica) -> None:
    """A cached or stored token proves nothing: both refreshes are made."""
    await replica.get("read", "trade", grant="person")
    assert NarrowingProfile.ADDITIONAL is (await replica.prove_narrowing("person", asked_by_admin())).profile
    assert 3 == len(world.endpoint.requests)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("no-such", NotFoundError), ("desk", InvalidRequestError), ("single", InvalidRequestError)],
)
async def test_grants_that_prove_nothing(world: World, name: str, kind: type[Exception]) -> None:
    """It takes a grant of type refresh_token with two scopes or more."""
    await world.put(grant("single", GrantType.REFRESH_TOKEN, ("trade",)))
    replica = await world.replica()
    with pytest.raises(kind):
        await replica.prove_narrowing(name, asked_by_admin())
    assert [] == world.endpoint.requests


async def test_held_grant_proves_nothing(world: World, replica: Replica) -> None:
    """What operators hold is not spent."""
    await world.hold("person")
    with pytest.raises(GrantHeldError):
        await replica.prove_narrowing("person", asked_by_admin())
    assert [] == world.endpoint.requests


async def test_grant_in_use_proves_nothing(world: World, replica: Replica) -> None:
    """A grant that others redeem is not spent."""
    await world.store.inner.apply("id-person", Take("other"))
    with pytest.raises(GrantConflictError):
        await replica.prove_narrowing("person", asked_by_admin())


@pytest.mark.parametrize(
    ("answer", "kind"), [(error("invalid_grant"), GrantQuarantinedError), (reply(500, {}), GrantUncertainError)]
)
async def test_other_failures_are_told(
    world: World, replica: Replica, answer: HttpReply, kind: type[Exception]
) -> None:
    """Only a refusal of the scopes is an observation."""
    world.endpoint.answers = [answer]
    with pytest.raises(kind):
        await replica.prove_narrowing("person", asked_by_admin())


async def test_proof_runs_on_when_its_caller_hangs_up(world: World, replica: Replica) -> None:
    """What was sent is kept: both redeems reach their end, through a short outage of the store too."""
    world.endpoint.hold = asyncio.Event()
    asked = asyncio.create_task(replica.prove_narrowing("person", asked_by_admin()))
    await until(lambda: len(world.endpoint.requests) == 1)
    asked.cancel()
    await asyncio.wait([asked])
    world.store.away.add("keep_and_land")
    world.endpoint.hold.set()
    await until(lambda: "keep_and_land" in world.store.calls)
    assert FIRST == await world.refresh_token("person")
    world.store.away.clear()
    await replica.prove_narrowing.aclose(20)
    await replica.prove_narrowing.aclose(20)
    assert "canary-rt-2" == await world.refresh_token("person")


async def test_failure_nobody_waits_for_leaves_no_warning(world: World, replica: Replica) -> None:
    """A proof whose caller hung up may fail, or be ended with the process, unheard."""
    world.endpoint.hold = asyncio.Event()
    world.endpoint.answers = [error("invalid_grant")]
    asked = asyncio.create_task(replica.prove_narrowing("person", asked_by_admin()))
    await until(lambda: len(world.endpoint.requests) == 1)
    asked.cancel()
    await asyncio.wait([asked])
    world.endpoint.hold.set()
    await replica.prove_narrowing.aclose(20)
    await world.consent("person", "canary-rt-new")
    world.endpoint.hold.clear()
    asked = asyncio.create_task(replica.prove_narrowing("person", asked_by_admin()))
    await until(lambda: len(world.endpoint.requests) == 2)
    (task,) = replica.prove_narrowing._running
    task.cancel()
    await asyncio.wait([task, asked])
    assert asked.cancelled()


# --- redeeming at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotates", [True, False])
async def test_redeem_now_tells_of_rotation(world: World, replica: Replica, rotates: bool) -> None:
    """The whole set is redeemed; whether a new refresh token replaced the imported one is told."""
    world.endpoint.rotates = rotates
    assert rotates == await replica.redeem_now("person")
    assert 1 == len(world.endpoint.requests)


async def test_redeem_now_knows_what_was_just_written(world: World, replica: Replica) -> None:
    """A grant, its client and its provider count from the commit that brought them."""
    await world.put(grant("late", GrantType.REFRESH_TOKEN))
    await world.consent("late")
    assert await replica.redeem_now("late")


async def test_redeem_now_of_what_is_not_there(world: World, replica: Replica) -> None:
    """No grant, or none with client and provider: not found, told to admins."""
    with pytest.raises(NotFoundError):
        await replica.redeem_now("no-such")
    await world.remove(Kind.CLIENT, "desk")
    with pytest.raises(NotFoundError):
        await replica.redeem_now("person")


async def test_redeem_now_tells_why_there_is_no_token(world: World, replica: Replica) -> None:
    """A refused import is told as such; so is a store that is away."""
    world.endpoint.answers = [error("invalid_grant")]
    with pytest.raises(GrantQuarantinedError):
        await replica.redeem_now("person")
    world.store.away.add("*")
    with pytest.raises(StoreUnavailableError):
        await replica.redeem_now("person")
