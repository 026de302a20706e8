"""The store away at every step, other replicas at work, and leases of processes that are gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.core import lease
from broker.core.errors import (
    GrantConflictError,
    GrantUncertainError,
    ProviderUnavailableError,
    StoreUnavailableError,
)
from broker.core.grant_state import Health, Hold, Phase
from broker.core.models import Kind
from broker.flows import obtain
from broker.ports import ReplyLostError
from tests.flows.world import (
    FIRST,
    NARROWING,
    READ,
    Replica,
    World,
    error,
    grant,
    let_pass,
    policy,
    reply,
    tokens,
)
from tests.support.times import TIMES
from tests.support.waiting import until


async def whole(replica: Replica) -> str:
    """Get a token of the grant's whole set; return where it came from."""
    return (await replica.get("read", "trade", grant="person")).source


async def store_fails_after_the_reply(world: World, replica: Replica) -> list[asyncio.Task[str]]:
    """Take the store away when the reply has come and has to be kept; return those who asked."""
    world.endpoint.hold = asyncio.Event()
    asked = [asyncio.create_task(whole(replica)) for _ in range(3)]
    await until(lambda: len(world.endpoint.requests) == 1)
    await until(lambda: replica.obtain._waiting == 3)
    world.store.away.add("*")
    world.endpoint.hold.set()
    return asked


async def test_received_token_lands_when_the_store_is_back(world: World, replica: Replica) -> None:
    """Waiters are told at once, storing goes on, newcomers are told as well, and the token lands in the end."""
    asked = await store_fails_after_the_reply(world, replica)
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [StoreUnavailableError] * 3 == [type(caught) for caught in errors]
    assert 3 == len({id(caught) for caught in errors})
    with pytest.raises(StoreUnavailableError):
        await whole(replica)
    assert FIRST == await world.refresh_token("person")
    tries = world.store.calls.count("keep_and_land")
    await until(lambda: world.store.calls.count("keep_and_land") > tries)
    world.store.away.clear()
    await replica.obtain.aclose(20)
    assert "canary-rt-1" == await world.refresh_token("person")
    assert Phase.IDLE is world.state("person").phase
    assert 1 == len(world.endpoint.requests)
    assert "memory" == await whole(replica)


async def test_all_who_queue_are_told_when_the_store_is_away(world: World) -> None:
    """Those who wait behind the redeem that cannot be stored are told at once too, and so is who comes then."""
    await world.put(NARROWING)
    replica = await world.replica()
    world.endpoint.hold = asyncio.Event()
    served = asyncio.create_task(replica.get("read", grant="person"))
    await until(lambda: len(world.endpoint.requests) == 1)
    queued = asyncio.create_task(replica.get("trade", grant="person"))
    await until(lambda: replica.obtain._waiting == 2)
    world.store.away.add("keep_and_land")
    world.endpoint.hold.set()
    errors = await asyncio.gather(served, queued, return_exceptions=True)
    assert [StoreUnavailableError] * 2 == [type(caught) for caught in errors]
    answered = asyncio.Event()
    world.store.before["keep_and_land"] = answered.wait  # type: ignore[assignment]  # what it returns is not looked at
    world.store.away.clear()
    with pytest.raises(StoreUnavailableError):
        await replica.get("read", "trade", grant="person")
    answered.set()
    await replica.obtain.aclose(20)
    assert 1 == len(world.endpoint.requests)
    assert "provider" == (await replica.get("trade", grant="person")).source


async def test_token_stored_after_an_outage_has_aged(world: World, replica: Replica) -> None:
    """The store is told what is left of a token's life when it takes it, not what was left when it went away."""
    world.store.away.add("finish")
    with pytest.raises(StoreUnavailableError):
        await whole(replica)
    world.clock.advance(1000)
    world.store.away.clear()
    await replica.obtain.aclose(20)
    other = await world.replica("b")
    issued = await other.get("read", "trade", grant="person")
    assert ("store", 2600) == (issued.source, issued.lifetime)


async def test_store_away_at_sent(world: World, replica: Replica) -> None:
    """Without SENT nothing is written; once the store is back the grant is idle and in no doubt."""
    world.store.away.update({"Sent", "NotSent"})
    with pytest.raises(StoreUnavailableError):
        await whole(replica)
    world.store.away.clear()
    await replica.obtain.aclose(20)
    assert [] == world.endpoint.requests
    state = world.state("person")
    assert (Phase.IDLE, None, 0) == (state.phase, state.first_sent_at, state.sends)
    world.clock.advance(1)
    assert "provider" == await whole(replica)


async def test_sent_committed_but_its_answer_lost(world: World, replica: Replica) -> None:
    """A SENT whose commit nobody heard of is taken back: nothing was written."""

    async def lost() -> None:
        world.store.after.clear()
        raise StoreUnavailableError("away", cause="connection")

    world.store.after["Sent"] = lost
    with pytest.raises(StoreUnavailableError):
        await whole(replica)
    assert [] == world.endpoint.requests
    state = world.state("person")
    assert (Phase.IDLE, None, 0) == (state.phase, state.first_sent_at, state.sends)


@pytest.mark.parametrize("step", ["find_access_tokens", "live_scope_sets", "Take"])
async def test_store_away_before_anything_was_leased(world: World, replica: Replica, step: str) -> None:
    """Whoever asks is told, and nothing is left behind."""
    world.store.away.add(step)
    with pytest.raises(StoreUnavailableError):
        await whole(replica)
    world.store.away.clear()
    assert "provider" == await whole(replica)


@pytest.mark.parametrize("step", ["current_refresh_token", "current_secret"])
async def test_store_away_while_preparing(world: World, replica: Replica, step: str) -> None:
    """The lease is given back; nothing was sent."""
    world.store.away.add(step)
    with pytest.raises(StoreUnavailableError):
        await whole(replica)
    assert Phase.IDLE is world.state("person").phase
    assert [] == world.endpoint.requests


@pytest.mark.parametrize(
    ("step", "answer", "phase", "health"),
    [
        ("NotConsumed", error("invalid_client", 401), Phase.IDLE, Health.OK),
        ("Refused", error("invalid_grant"), Phase.IDLE, Health.QUARANTINED),
        ("Unknown", reply(500, {}), Phase.UNKNOWN, Health.OK),
        ("NotRotated", tokens(scope=" ".join((*READ, "order:execution"))), Phase.IDLE, Health.OK),
        ("record_attempt", None, Phase.IDLE, Health.OK),
    ],
)
async def test_verdict_is_stored_when_the_store_is_back(
    world: World, replica: Replica, step: str, answer: object, phase: Phase, health: Health
) -> None:
    """Whatever the provider said is not forgotten because the store was away for a moment."""
    world.endpoint.answers = [] if answer is None else [answer]  # type: ignore[list-item]  # a reply
    world.store.away.add(step)
    with pytest.raises(StoreUnavailableError):
        await whole(replica)
    world.store.away.clear()
    await replica.obtain.aclose(20)
    assert (phase, health) == (world.state("person").phase, world.state("person").health)
    assert 1 == len(await world.outcomes("person"))


async def test_client_credentials_lease_that_cannot_be_freed(world: World, replica: Replica) -> None:
    """The provider's refusal is told, not the store's; the lease ends by itself."""
    world.endpoint.answers = [error("x", 503)]
    world.store.away.add("release_access")
    with pytest.raises(ProviderUnavailableError):
        await replica.get()
    world.store.away.clear()
    world.clock.advance(15)
    assert "provider" == (await replica.get()).source


# --- other replicas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["desk", "person"])
async def test_loser_serves_the_winners_token(world: World, name: str) -> None:
    """While another replica holds the lease one looks out for its token, and makes no call."""
    first, second = await world.replica("a"), await world.replica("b")
    world.endpoint.hold = asyncio.Event()
    winner = asyncio.create_task(first.get("read", "trade", grant=name))
    await until(lambda: len(world.endpoint.requests) == 1)
    losers = [asyncio.create_task(second.get("read", "trade", grant=name)) for _ in range(20)]
    await until(lambda: world.store.calls.count("find_access_tokens") > 5)
    taken = world.store.calls.count("Take") + world.store.calls.count("take_access")
    assert 2 == taken
    world.endpoint.hold.set()
    assert "provider" == (await winner).source
    assert {"store"} == {token.source for token in await asyncio.gather(*losers)}
    assert 1 == len(world.endpoint.requests)


@pytest.mark.parametrize("name", ["desk", "person"])
@pytest.mark.parametrize("turns", range(0, 36, 3))
async def test_three_replicas_make_one_call(world: World, name: str, turns: int) -> None:
    """However their steps interleave, replicas that ask at about the same time cause one call."""
    replicas = [await world.replica(owner) for owner in "abc"]
    asked = []
    for replica in replicas:
        asked += [asyncio.create_task(replica.get("read", "trade", grant=name)) for _ in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
    issued = await asyncio.gather(*asked)
    assert 1 == len(world.endpoint.requests)
    assert 1 == len({token.fingerprint for token in issued})


@pytest.mark.parametrize("name", ["desk", "person"])
async def test_token_that_came_just_before_the_lease(world: World, replica: Replica, name: str) -> None:
    """Under the lease one looks again: a token brought since the first look is served, and the lease given back."""
    other = await world.replica("b")
    take = "take_access" if name == "desk" else "Take"

    async def another_is_first() -> None:
        world.store.before.clear()
        await other.get("read", "trade", grant=name)

    world.store.before[take] = another_is_first
    assert "store" == (await replica.get("read", "trade", grant=name)).source
    assert 4 == world.store.calls.count("find_access_tokens")
    assert 1 == len(world.endpoint.requests)
    world.clock.advance(3600)
    assert "provider" == (await replica.get("read", "trade", grant=name)).source


async def test_awaited_keys_are_asked_for_in_one_statement(world: World) -> None:
    """Fifty keys awaited from other replicas are polled together, one poll in flight."""
    names = [f"many-{number}" for number in range(50)]
    await world.put(*(grant(name) for name in names), policy("many", "key:orders", "many-*", "read"))
    first, second = await world.replica("a"), await world.replica("b")
    world.endpoint.hold = asyncio.Event()
    winners = [asyncio.create_task(first.get(grant=name)) for name in names]
    await until(lambda: len(world.endpoint.requests) == 50)
    losers = [asyncio.create_task(second.get(grant=name)) for name in names]
    await until(lambda: world.store.calls.count("take_access") == 100)
    world.store.calls.clear()
    await asyncio.sleep(0)
    await until(lambda: world.store.calls.count("find_access_tokens") >= 10)
    assert {"find_access_tokens"} == set(world.store.calls)
    world.endpoint.hold.set()
    await asyncio.gather(*winners, *losers)
    assert 50 == len(world.endpoint.requests)


@pytest.mark.parametrize("name", ["desk", "person"])
async def test_lease_of_a_process_that_is_gone_is_taken_over(world: World, replica: Replica, name: str) -> None:
    """A lease that nobody extends ends; who waited redeems."""
    other = await world.replica("b")

    async def never() -> None:
        await asyncio.Event().wait()

    world.endpoint.connect = never
    gone = asyncio.create_task(other.get("read", "trade", grant=name))
    label = "take_access" if name == "desk" else "Take"
    await until(lambda: label in world.store.calls)
    await until(lambda: "current_secret" in world.store.calls)
    (task,) = other.obtain._tasks
    task.cancel()
    await asyncio.wait([task, gone])
    world.endpoint.connect = None
    asked = asyncio.create_task(replica.get("read", "trade", grant=name))
    await until(lambda: world.store.calls.count(label) == 2)
    assert "provider" == (await let_pass(world.clock, asked)).source
    assert 1000 + 15 <= world.clock.boottime()


async def test_send_of_a_process_that_is_gone_is_in_doubt(world: World, replica: Replica) -> None:
    """A lease that ends in `sent` leaves the grant uncertain: nothing is sent."""
    await world.send_and_vanish("person")
    asked = asyncio.create_task(whole(replica))
    await until(lambda: "get_state" in world.store.calls)
    assert Phase.SENT is world.state("person").phase
    with pytest.raises(GrantUncertainError):
        await let_pass(world.clock, asked)
    assert [] == world.endpoint.requests


async def test_waiting_for_another_replica_ends(
    world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that is held on and on is not waited for longer than a redeem can take."""
    monkeypatch.setattr(obtain, "PATIENCE", 10.0)
    await world.store.inner.apply("id-person", lease.Take("busy"))
    asked = asyncio.create_task(whole(replica))

    async def extend() -> None:
        await world.store.inner.apply("id-person", lease.Extend(2))

    world.store.before["find_access_tokens"] = extend
    with pytest.raises(GrantConflictError) as caught:
        await let_pass(world.clock, asked)
    assert "lease_held" == caught.value.cause
    assert 1010 < world.clock.boottime()


async def test_grant_removed_while_waited_for(world: World, replica: Replica) -> None:
    """A grant that is gone is not waited for; asked for again, it is unknown."""

    async def remove() -> None:
        await world.hold("person", Hold.REVOKED)
        await world.remove(Kind.GRANT, "person")

    world.store.before["Take"] = remove
    with pytest.raises(GrantConflictError) as caught:
        await whole(replica)
    assert "removed" == caught.value.cause


async def test_busy_grant_is_not_taken_for_one_that_backs_off(world: World, replica: Replica) -> None:
    """An idle grant that could not be taken was served by others meanwhile; only one that rests is said to rest."""
    others = 0

    async def others_were_faster() -> None:
        nonlocal others
        if others < 4:
            others += 1
            state = await world.store.inner.apply("id-person", lease.Take("other"))
            assert state is not None
            world.store.after["Take"] = finished

    async def finished() -> None:
        world.store.after.clear()
        await world.store.inner.apply("id-person", lease.NotSent(world.state("person").attempt, 0))

    world.store.before["Take"] = others_were_faster
    assert "provider" == await whole(replica)
    assert 4 == others


async def test_stored_token_of_another_row_does_not_open(world: World, replica: Replica) -> None:
    """A sealed access token moved to another key's row is no token; a new one is got."""
    await replica.get("trade")
    await replica.get("read")
    rows = world.store.inner._access
    (trade,) = [row for key, row in rows.items() if key.wire_scopes == ("order:execution",)]
    (read_key,) = [key for key in rows if key.wire_scopes == READ]
    assert trade.token is not None
    rows[read_key].token = replace(trade.token, key=read_key)
    issued = await (await world.replica("b")).get("read")
    assert ("provider", READ) == (issued.source, issued.provider_scopes)


async def test_lost_reply_of_client_credentials_is_no_doubt(world: World, replica: Replica) -> None:
    """Such a call may be made again after a moment."""
    world.endpoint.answers = [ReplyLostError("timeout")]
    with pytest.raises(ProviderUnavailableError):
        await replica.get()
    world.clock.advance(1)
    assert "provider" == (await replica.get()).source


# --- the heartbeat ---------------------------------------------------------------------------------------------------


async def test_lease_is_kept_while_the_provider_is_slow(world: World) -> None:
    """Both kinds of redeem are in every beat, until they end."""
    for name in ("desk", "person"):
        replica = await world.replica(name)
        world.endpoint.hold = asyncio.Event()
        asked = asyncio.create_task(replica.get("read", "trade", grant=name))
        before = len(world.endpoint.requests)
        await until(lambda: len(world.endpoint.requests) > before)  # noqa: B023 - awaited in the loop
        for _ in range(4):
            world.clock.advance(TIMES.lease / 1000 - 1)
            await replica.heart.beat()
        assert world.leased(name)
        world.endpoint.hold.set()
        await asked
        assert ({}, {}) == (replica.heart._grants, replica.heart._keys)
    assert "canary-rt-2" == await world.refresh_token("person")
