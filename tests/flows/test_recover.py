"""A grant in doubt: adopted before replayed before probed, and nothing sent that may be spent."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.core import lease
from broker.core.audit import Action, AuditEvent
from broker.core.errors import (
    BrokerError,
    ConsentRequiredError,
    GrantConflictError,
    GrantHeldError,
    GrantQuarantinedError,
    GrantUncertainError,
    ProviderUnavailableError,
)
from broker.core.grant_state import GrantState, Health, Hold, Phase
from broker.core.oauth.rfc6749 import HttpReply
from broker.core.scope_sets import MAX_OF_GRANT
from broker.core.sealing import refresh_token_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.prospects import SOON, Prospects
from broker.flows.redeem_refresh_token import STAND_BACK
from broker.flows.wish import wish_for
from broker.ports import NotSentError, ReplyLostError
from tests.flows.world import (
    ALL,
    CLIENT,
    FIRST,
    PROVIDER,
    TIME,
    Endpoint,
    Replica,
    World,
    error,
    let_pass,
    new_world,
    tokens,
)
from tests.support.times import TIMES

GRACEFUL = replace(PROVIDER, replay_window=120)
RECORD = AuditEvent(TIME, Action.GRANT_REDEEM)
IN_FLIGHT = TIMES.in_flight / 1000


class Rotating(Endpoint):
    """A provider that kills a spent token, but gives its successor again while it is the last one it gave.

    Attributes:
        lose: replies that are lost after the token was taken; lose_requests: requests that never arrive.
        again: whether a token spent last brings the same successor again.
    """

    lose: int
    lose_requests: int
    again: bool
    before: str

    def usual(self, parameters: dict[str, str], number: int) -> HttpReply:  # type: ignore[override]  # narrower
        if self.lose_requests:
            self.lose_requests -= 1
            raise ReplyLostError("timeout")
        if self.again and parameters["refresh_token"] == self.before:
            answer = tokens(access_token=f"at-{number}", scope=" ".join(ALL), refresh_token=self.live)
        else:
            self.before = parameters["refresh_token"]
            answer = super().usual(parameters, number)
        if self.lose:
            self.lose -= 1
            raise ReplyLostError("reset")
        return answer


async def rotating_world(*, again: bool = True) -> World:
    """Return a world with a provider that may lose requests and replies."""
    world = await new_world(GRACEFUL if again else PROVIDER)
    endpoint = Rotating()
    endpoint.lose, endpoint.lose_requests, endpoint.again, endpoint.before = 0, 0, again, ""
    world.endpoint = endpoint
    return world


async def whole(replica: Replica) -> str:
    """Get a token of the grant's whole set; return where it came from."""
    return (await replica.get("read", "trade", grant="person")).source


async def in_time(world: World, replica: Replica) -> str:
    """The same, while time passes."""
    return await let_pass(world.clock, asyncio.ensure_future(whole(replica)))


def sent(world: World) -> list[str]:
    """Return the refresh tokens sent, in order."""
    return [request["refresh_token"] for request in world.endpoint.requests]


async def up(world: World, *replicas: Replica) -> None:
    """Let the store have been up for long enough in the eyes of these processes."""
    for replica in replicas:
        await replica.heart.beat()
    world.clock.advance(TIMES.store_up / 1000)
    for replica in replicas:
        await replica.heart.beat()


# --- replay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["lose", "lose_requests"])
async def test_inside_the_window_the_same_token_is_sent_again(lost: str) -> None:
    """Whoever waits is served by the second send; the third token is got with the second, once."""
    world = await rotating_world()
    replica = await world.replica()
    setattr(world.endpoint, lost, 1)
    assert "provider" == await in_time(world, replica)
    world.clock.advance(3600)
    assert "provider" == await whole(replica)
    assert [FIRST, FIRST] == sent(world)[:2]
    assert [await world.refresh_token("person")] == [world.endpoint.live]
    assert ["unknown", "landed", "landed"] == await world.outcomes("person")


async def test_no_token_is_sent_a_fourth_time() -> None:
    """Then callers are told that nobody knows, until it is probed."""
    world = await rotating_world()
    replica = await world.replica()
    world.endpoint.lose_requests = 9  # type: ignore[attr-defined]  # of Rotating
    for _ in range(3):
        with pytest.raises(GrantUncertainError):
            await in_time(world, replica)
    assert [FIRST] * 3 == sent(world)


async def test_after_the_window_nothing_is_replayed() -> None:
    """The window is counted from the first send; a process that vanished leaves it in the row."""
    world = await rotating_world()
    replica = await world.replica()
    await world.send_and_vanish("person", replay_for=20_000)
    world.clock.advance(20)
    with pytest.raises(GrantUncertainError):
        await whole(replica)
    assert [] == sent(world)


async def test_a_process_that_vanished_is_replayed_for() -> None:
    """Another one sends its token again once its lease is over, and not before."""
    world = await rotating_world()
    replica = await world.replica()
    await world.send_and_vanish("person", replay_for=60_000)
    asked = asyncio.ensure_future(whole(replica))
    began = world.clock.boottime()
    assert "provider" == await let_pass(world.clock, asked)
    assert TIMES.lease / 1000 <= world.clock.boottime() - began
    assert [FIRST] == sent(world)


async def test_two_that_find_a_doubt_at_once_recover_it_once() -> None:
    """Whoever was not the first to say that nobody knows goes on all the same, and sends."""
    world = await rotating_world()
    replica = await world.replica()
    await world.send_and_vanish("person", replay_for=60_000)
    world.clock.advance(TIMES.lease / 1000)

    async def another_is_first() -> None:
        assert await world.store.inner.apply("id-person", lease.Unknown(None)) is not None

    world.store.before["Unknown"] = another_is_first
    assert "provider" == await whole(replica)
    assert [FIRST] == sent(world)


# --- probe -----------------------------------------------------------------------------------------------------------


async def test_a_lost_request_is_found_by_a_probe() -> None:
    """Where the same process knows that nothing more will come, two minutes after the send, once."""
    world = await rotating_world(again=False)
    replica = await world.replica()
    world.endpoint.lose_requests = 1  # type: ignore[attr-defined]  # of Rotating
    with pytest.raises(GrantUncertainError):
        await whole(replica)
    await up(world, replica)
    world.clock.advance(IN_FLIGHT - TIMES.store_up / 1000 - 0.001)
    with pytest.raises(GrantUncertainError):
        await whole(replica)
    assert [FIRST] == sent(world)
    world.clock.advance(0.001)
    assert "provider" == await whole(replica)
    assert [FIRST, FIRST] == sent(world)


async def test_a_lost_reply_is_the_end_without_a_window() -> None:
    """The probe is refused: the grant is quarantined, kept, and nothing is sent a third time."""
    world = await rotating_world(again=False)
    replica = await world.replica()
    world.endpoint.lose = 1  # type: ignore[attr-defined]  # of Rotating
    with pytest.raises(GrantUncertainError):
        await whole(replica)
    await up(world, replica)
    world.clock.advance(IN_FLIGHT)
    for _ in range(2):
        with pytest.raises(GrantQuarantinedError):
            await whole(replica)
    assert [FIRST, FIRST] == sent(world)


async def test_a_probe_that_nobody_answered_is_followed_by_another() -> None:
    """A provider that is away for some minutes ends no grant: its token may be unspent, and is sent again in time."""
    world = await rotating_world(again=False)
    replica = await world.replica()
    world.endpoint.lose_requests = 3  # type: ignore[attr-defined]  # of Rotating
    for _ in range(3):
        with pytest.raises(GrantUncertainError):
            await whole(replica)
        with pytest.raises(GrantUncertainError):  # not before that one is settled
            await whole(replica)
        await up(world, replica)
        world.clock.advance(IN_FLIGHT)
    assert "provider" == await whole(replica)
    assert [FIRST] * 4 == sent(world)


async def test_a_probe_waits_for_whoever_vanished() -> None:
    """For ten minutes nobody probes behind a process of which nothing is known; a journal found empty ends the wait."""
    for wait, drained in ((TIMES.journal_lost / 1000, False), (IN_FLIGHT, True)):
        world = await rotating_world(again=False)
        replica = await world.replica()
        await world.store.inner.beat("gone", "volume-1", [], [])
        await world.send_and_vanish("person")
        world.clock.advance(IN_FLIGHT)
        await up(world, replica)
        with pytest.raises(GrantUncertainError):
            await whole(replica)
        world.clock.advance(wait - IN_FLIGHT)
        if drained:
            await world.store.inner.beat("next", "volume-1", [], [])
            await world.store.inner.drained("next")
        assert "provider" == await whole(replica)
        assert [FIRST] == sent(world)


async def test_nobody_probes_just_after_an_outage() -> None:
    """Whoever holds a received token in memory goes first: the store has to have been up for ten seconds."""
    world = await rotating_world(again=False)
    replica = await world.replica()
    await world.send_and_vanish("person")
    world.clock.advance(TIMES.journal_lost / 1000)
    await replica.heart.beat()
    world.clock.advance(TIMES.store_up / 1000 - 0.001)
    with pytest.raises(GrantUncertainError):
        await whole(replica)
    assert [] == sent(world)
    world.clock.advance(0.001)
    assert "provider" == await whole(replica)


# --- adopt -----------------------------------------------------------------------------------------------------------


async def keep_late(world: World, token: str, generation: int) -> None:
    """Let a token of an earlier attempt arrive."""
    state = world.state("person")
    binding = refresh_token_binding("id-person", state.consent, state.attempt, origin_of(PROVIDER.token_url))
    land = lease.Land(state.attempt, generation, state.consent, world.keyring.fingerprint(Secret(token)))
    await world.store.inner.keep_and_land("id-person", land, await world.keyring.seal(Secret(token), binding), RECORD)


@pytest.mark.parametrize("replay_for", [None, 600_000])
async def test_a_token_never_sent_is_adopted_before_anything_is_sent_again(replay_for: int | None) -> None:
    """It may be the live successor of the one in doubt, which is not sent, window or not, settled or not."""
    world = await rotating_world(again=replay_for is not None)
    replica = await world.replica()
    await world.send_and_vanish("person", replay_for)
    await keep_late(world, "canary-rt-late", 0)
    world.endpoint.live = "canary-rt-late"
    world.clock.advance(TIMES.lease / 1000)
    assert "provider" == await whole(replica)
    assert ["canary-rt-late"] == sent(world)


async def test_an_adopted_token_that_is_refused_leaves_the_doubt() -> None:
    """The one it replaced is in doubt again and probed when that is settled; it turns out to be good."""
    world = await rotating_world(again=False)
    replica = await world.replica()
    await world.send_and_vanish("person")
    await keep_late(world, "canary-rt-late", 0)
    world.clock.advance(TIMES.lease / 1000)
    with pytest.raises(BrokerError):
        await whole(replica)
    assert ["canary-rt-late"] == sent(world)
    assert Phase.UNKNOWN is world.state("person").phase
    await up(world, replica)
    world.clock.advance(TIMES.journal_lost / 1000)
    assert "provider" == await whole(replica)
    assert ["canary-rt-late", FIRST] == sent(world)


async def test_a_living_owner_is_left_alone() -> None:
    """While its lease lives nothing is recovered, nor tried; a grant that is not there is nobody's."""
    world = await rotating_world()
    replica = await world.replica()
    await world.send_and_vanish("person", 600_000)
    await keep_late(world, "canary-rt-late", 0)
    assert await replica.refresh._lease_grant("id-person") is None
    assert await replica.refresh._lease_grant.recover("nobody") is None
    assert Phase.SENT is world.state("person").phase
    assert ["Take", "get_state", "get_state"] == world.store.calls[-3:]


# --- what waiting is worth -------------------------------------------------------------------------------------------

NOW = 1_000_000
UNKNOWN: dict[str, object] = {"phase": Phase.UNKNOWN, "first_sent_at": NOW - 9, "sends": 1}


@pytest.mark.parametrize(
    ("changes", "expected", "retry_after"),
    [
        ({}, False, None),
        ({"phase": Phase.PREPARED}, True, None),
        ({"phase": Phase.SENT}, True, None),
        ({"phase": Phase.LANDED}, True, None),
        ({"not_before": NOW}, False, None),
        ({"not_before": NOW + 7_500}, ProviderUnavailableError, 7.5),
        ({"hold": Hold.FROZEN}, GrantHeldError, None),
        ({"hold": Hold.REVOKED, "current": None}, GrantHeldError, None),
        ({"current": None}, ConsentRequiredError, None),
        ({"health": Health.QUARANTINED}, GrantQuarantinedError, None),
        (UNKNOWN, GrantUncertainError, None),
        (UNKNOWN | {"replay_until": NOW + 1}, True, None),
        (UNKNOWN | {"replay_until": NOW}, GrantUncertainError, None),
        (UNKNOWN | {"replay_until": NOW + 9_000, "sends": 3}, GrantUncertainError, None),
        (UNKNOWN | {"replay_until": NOW + 9_000, "not_before": NOW + 9_000}, GrantUncertainError, None),
        (UNKNOWN | {"replay_until": NOW + 90_000, "not_before": NOW + SOON}, True, None),
        (UNKNOWN | {"replay_until": NOW + 90_000, "not_before": NOW + SOON + 500}, GrantUncertainError, 5.5),
    ],
)
async def test_whether_waiting_is_worth_it(
    world: World, changes: dict[str, object], expected: object, retry_after: float | None
) -> None:
    """True while somebody is at work or may soon be; who would wait in vain, or for long, is told why and how long."""
    inner = world.store.inner
    grant = inner._grants["id-person"]
    state: GrantState = replace(grant.state, **changes)  # type: ignore[arg-type]  # fields by name
    inner._grants["id-person"] = replace(grant, state=state)
    ask = Prospects(world.store)
    if isinstance(expected, bool):
        assert expected == await ask(grant)
        return
    with pytest.raises(expected) as told:  # type: ignore[call-overload]  # an error's type
        await ask(grant)
    assert retry_after == told.value.retry_after


async def test_a_grant_that_is_gone_is_not_waited_for(world: World) -> None:
    """It was removed while somebody wanted it."""
    grant = world.store.inner._grants.pop("id-person")
    with pytest.raises(GrantConflictError):
        await Prospects(world.store)(grant)


# --- back-off and standing back --------------------------------------------------------------------------------------


async def test_what_fails_before_the_provider_is_asked_makes_nobody_wait(world: World, replica: Replica) -> None:
    """No failure is counted and the next redeem begins at once; one that could not connect backs off."""
    world.store.away.add("current_secret")
    with pytest.raises(BrokerError):
        await whole(replica)
    world.store.away.clear()
    state = world.state("person")
    assert (0, True) == (state.failures, state.not_before <= world.clock.boottime() * 1000)

    async def refuse() -> None:
        raise NotSentError("connect")

    world.endpoint.connect = refuse
    with pytest.raises(ProviderUnavailableError):
        await whole(replica)
    state = world.state("person")
    assert (1, True) == (state.failures, state.not_before > world.clock.boottime() * 1000)


async def test_each_failure_in_a_row_is_waited_for_longer(world: World, replica: Replica) -> None:
    """Twice as long each time, as asked for at least; a landing ends the row."""
    waits = []
    for answer in (error("x", 429), error("x", 429), error("x", 429, retry_after="30"), error("x", 429)):
        world.endpoint.answers = [answer]
        with pytest.raises(BrokerError):
            await whole(replica)
        left = world.state("person").not_before / 1000 - world.clock.boottime()
        waits.append(left)
        world.clock.advance(max(left, 60) + 0.001)
    for wait, least in zip(waits, (1, 2, 30, 8), strict=True):
        assert least <= wait <= least * 1.25
    assert "provider" == await whole(replica)
    assert (0, FIRST) == (world.state("person").failures, sent(world)[-1])


async def test_a_process_that_served_enough_stands_back(world: World, replica: Replica) -> None:
    """After as many sets as a grant may have it leaves the grant to other processes for a second."""
    grant = await world.store.inner.find_grant("person")
    assert grant is not None
    wish = wish_for(grant, CLIENT, PROVIDER, frozenset(ALL))

    async def wanted() -> bool:
        return True

    async def redeem() -> bool:
        return await replica.refresh(wish, lambda _: None, wanted, lambda: True) is not None

    served = [await redeem() for _ in range(MAX_OF_GRANT)]
    assert (Phase.IDLE, MAX_OF_GRANT) == (world.state("person").phase, len(world.endpoint.requests))
    world.clock.advance(STAND_BACK - 0.001)
    served.append(await redeem())
    assert await world.store.inner.apply("id-person", lease.Take("another")) is not None
    await world.store.inner.apply("id-person", lease.NotSent(world.state("person").attempt, 0))
    world.clock.advance(0.001)
    served.append(await redeem())
    assert [*[True] * MAX_OF_GRANT, False, True] == served
    await replica.refresh.give_back("id-person")
    assert Phase.IDLE is world.state("person").phase
