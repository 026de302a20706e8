"""The redeem of a refresh token, told by what is stored when, whatever the provider, the store and callers do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.core.audit import Action
from broker.core.errors import (
    BrokerError,
    ConsentRequiredError,
    GrantConflictError,
    GrantHeldError,
    GrantQuarantinedError,
    GrantUncertainError,
    ProviderRefusedClientError,
    ProviderUnavailableError,
    Reason,
    ScopeNotGrantedError,
    ScopeSetsError,
    StoreUnavailableError,
)
from broker.core.grant_state import Health, Hold, Phase
from broker.core.models import GrantType, Kind, TokenEndpointAuth
from broker.core.oauth.rfc6749 import HttpReply
from broker.flows import obtain
from broker.ports import NotSentError, ReplyLostError
from tests.flows.world import (
    ALL,
    FIRST,
    NARROWING,
    PROVIDER,
    READ,
    SECRET,
    TRADE,
    Replica,
    World,
    error,
    grant,
    let_pass,
    new_world,
    policy,
    reply,
    tokens,
)
from tests.support.times import TIMES
from tests.support.waiting import until

ALL_WIRE = " ".join(ALL)


async def whole(replica: Replica) -> str:
    """Get a token of the grant's whole set; return where it came from."""
    return (await replica.get("read", "trade", grant="person")).source


async def refused(replica: Replica) -> BrokerError:
    """Return the error that the whole set is answered with."""
    with pytest.raises(BrokerError) as caught:
        await whole(replica)
    return caught.value


async def test_steps_in_their_order(world: World, replica: Replica) -> None:
    """Lease, then SENT before the first byte, then the received token kept alone, then the access token."""
    written_at = []

    async def connect() -> None:
        assert Phase.PREPARED is world.state("person").phase
        world.store.after["Sent"] = sent

    async def sent() -> None:
        written_at.append(len(world.endpoint.requests))
        assert Phase.SENT is world.state("person").phase

    async def landed() -> None:
        assert "canary-rt-1" == await world.refresh_token("person")
        assert {} == await world.store.inner.find_access_tokens(list(world.store.inner._access))

    world.endpoint.connect = connect
    world.store.before["finish"] = landed
    assert "provider" == await whole(replica)
    steps = [call for call in world.store.calls if call in {"Take", "Sent", "keep_and_land", "finish"}]
    assert ["Take", "Sent", "keep_and_land", "finish"] == steps
    assert [0] == written_at
    assert FIRST == world.endpoint.requests[0]["refresh_token"]
    state = world.state("person")
    assert (Phase.IDLE, None, 0, 2) == (state.phase, state.first_sent_at, state.sends, state.generation)
    assert ["landed"] == await world.outcomes("person")


async def test_rotated_token_is_spent_next(world: World, replica: Replica) -> None:
    """Each redeem sends the token the last one brought; each rotation has its event."""
    for number in range(3):
        assert "provider" == await whole(replica)
        assert f"canary-rt-{number + 1}" == await world.refresh_token("person")
        world.clock.advance(3600)
    events = [pending.event for pending in await world.store.inner.undelivered(100)]
    redeemed = [event for event in events if event.action is Action.GRANT_REDEEM]
    assert ["broker:a"] * 3 == [event.actor for event in redeemed]
    assert [f"id-person/{attempt}" for attempt in (2, 3, 4)] == [event.request_id for event in redeemed]


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"access_token": "not a token"}, ProviderUnavailableError),
        ({"token_type": "mac"}, ProviderUnavailableError),
        ({"expires_in": -1}, ProviderUnavailableError),
        ({"scope": "account:information"}, ScopeNotGrantedError),
        ({"scope": None}, ScopeNotGrantedError),
        ({"scope": f"{ALL_WIRE} boss"}, BrokerError),
        ({"error": "invalid_grant"}, ProviderUnavailableError),
    ],
)
async def test_rotation_is_kept_whatever_else_is_wrong(
    world: World, replica: Replica, members: dict[str, object], kind: type[BrokerError]
) -> None:
    """A received refresh token is saved before anything in its reply is judged; the grant stays usable."""
    world.endpoint.answers = [tokens(**({"scope": ALL_WIRE, "refresh_token": "canary-rt-x"} | members))]
    assert isinstance(await refused(replica), kind)
    assert "canary-rt-x" == await world.refresh_token("person")
    state = world.state("person")
    assert (Phase.IDLE, Health.OK, None) == (state.phase, state.health, state.first_sent_at)
    assert ["landed"] == await world.outcomes("person")
    assert frozenset({"read", "trade"}) == world.store.inner._grants["id-person"].scopes


async def test_rotation_is_kept_when_the_audit_log_is_away(world: World, replica: Replica) -> None:
    """The caller gets nothing without its event; the grant has its new token, the next caller the access token."""

    async def away() -> None:
        raise StoreUnavailableError("away")

    world.audit.on_record = [away]
    assert Reason.STORE_UNAVAILABLE == (await refused(replica)).reason
    assert "canary-rt-1" == await world.refresh_token("person")
    assert "memory" == await whole(replica)


async def test_reply_without_rotation_keeps_the_token(world: World, replica: Replica) -> None:
    """No refresh token in the reply: the old one stays current and unspent, the history says so."""
    world.endpoint.rotates = False
    assert "provider" == await whole(replica)
    state = world.state("person")
    assert (Phase.IDLE, None, 1) == (state.phase, state.first_sent_at, state.generation)
    assert FIRST == await world.refresh_token("person")
    assert ["not_rotated"] == await world.outcomes("person")


async def test_refused_grant_is_quarantined_and_kept(world: World, replica: Replica) -> None:
    """invalid_grant is told as such, now and later; nothing is deleted and nothing is sent again."""
    world.endpoint.answers = [error("invalid_grant")]
    for _ in range(3):
        caught = await refused(replica)
        assert GrantQuarantinedError is type(caught)
        assert SECRET not in f"{caught!r}{caught.cause}{caught.metadata}"
    assert 1 == len(world.endpoint.requests)
    assert Health.QUARANTINED is world.state("person").health
    assert FIRST == await world.refresh_token("person")
    pending = [item.event for item in await world.store.inner.undelivered(100)]
    assert ["person"] == [event.grant for event in pending if event.action is Action.GRANT_QUARANTINE]
    assert ["refused"] == await world.outcomes("person")


UNKNOWN = [
    reply(500, {"error": "x"}),
    reply(503, {}),
    reply(408, {}),
    reply(302, {}),
    reply(403, {"error": "invalid_client"}),
    HttpReply(200, {"content-type": "text/html"}, b"<html>"),
    ReplyLostError("timeout"),
    ReplyLostError("reset"),
    ReplyLostError("too_large", reply(200, {"access_token": "at"})),
]


@pytest.mark.parametrize("answer", UNKNOWN)
async def test_unknown_fate_is_never_sent_again(world: World, replica: Replica, answer: HttpReply | Exception) -> None:
    """After a byte was written and no usable answer came, the grant is uncertain and its token stays unsent."""
    world.endpoint.answers = [answer]
    for _ in range(3):
        caught = await refused(replica)
        assert GrantUncertainError is type(caught)
        world.clock.advance(600)
    assert 1 == len(world.endpoint.requests)
    assert Phase.UNKNOWN is world.state("person").phase
    assert FIRST == await world.refresh_token("person")
    assert ["unknown"] == await world.outcomes("person")


async def test_cached_token_outlives_the_doubt(world: World, replica: Replica) -> None:
    """While a grant is uncertain, tokens it gave are served to their end."""
    await world.put(NARROWING)
    await replica.view.catch_up(await world.store.read_version())
    await whole(replica)
    world.endpoint.answers = [ReplyLostError("timeout")]
    with pytest.raises(GrantUncertainError):
        await replica.get("read", grant="person")
    assert "memory" == await whole(replica)


async def test_reply_broken_off_after_its_refresh_token(world: World, replica: Replica) -> None:
    """A refresh token in what did come is kept; the grant is not in doubt."""
    partial = HttpReply(200, {}, b'{"refresh_token": "canary-rt-x", "access_tok')
    world.endpoint.answers = [ReplyLostError("reset", partial)]
    assert ProviderUnavailableError is type(await refused(replica))
    assert "canary-rt-x" == await world.refresh_token("person")
    assert Phase.IDLE is world.state("person").phase


@pytest.mark.parametrize("cause", ["dns", "connect", "tls", "egress", "timeout"])
async def test_nothing_sent_is_no_doubt(world: World, replica: Replica, cause: str) -> None:
    """A connection that failed costs a back-off of about a second, nothing else."""

    async def fail() -> None:
        raise NotSentError(cause)

    world.endpoint.connect = fail
    assert ProviderUnavailableError is type(await refused(replica))
    state = world.state("person")
    assert (Phase.IDLE, None, 0) == (state.phase, state.first_sent_at, state.sends)
    assert ["not_sent"] == await world.outcomes("person")
    world.endpoint.connect = None
    world.clock.advance(2)
    assert "provider" == await whole(replica)


async def test_throttled_redeem_backs_off(world: World, replica: Replica) -> None:
    """429 leaves the token unspent; the wait asked for holds for this process and for others."""
    world.endpoint.answers = [error("x", 429, retry_after="120")]
    first = await refused(replica)
    assert (ProviderUnavailableError, 120) == (type(first), first.retry_after)
    other = await world.replica("b")
    world.clock.advance(119)
    second = await refused(other)
    assert (ProviderUnavailableError, "backing_off") == (type(second), second.cause)
    assert 1 == len(world.endpoint.requests)
    assert second.retry_after is not None
    assert 1 <= second.retry_after < 32  # what is left, with a spread
    world.clock.advance(second.retry_after)
    assert "provider" == await whole(other)


async def test_wrong_client_secret_leaves_the_grant_alone(world: World, replica: Replica) -> None:
    """invalid_client is told as what it is; the grant stays idle with its token."""
    world.endpoint.answers = [error("invalid_client", 401)]
    assert ProviderRefusedClientError is type(await refused(replica))
    state = world.state("person")
    assert (Phase.IDLE, Health.OK, None, 1) == (state.phase, state.health, state.first_sent_at, state.generation)
    assert FIRST == await world.refresh_token("person")
    world.clock.advance(30)
    assert "provider" == await whole(replica)


async def test_refused_scopes_do_not_hold_up_other_sets(world: World) -> None:
    """invalid_scope backs off for its own set only."""
    await world.put(NARROWING)
    replica = await world.replica()
    world.endpoint.answers = [error("invalid_scope")]
    with pytest.raises(ScopeNotGrantedError):
        await replica.get("trade", grant="person")
    assert "provider" == (await replica.get("read", grant="person")).source


async def test_grant_without_a_token_wants_consent(world: World) -> None:
    """A grant nobody authorized yet says so; the provider is not asked."""
    await world.put(grant("fresh", GrantType.REFRESH_TOKEN), policy("fresh", "key:orders", "fresh", "read trade"))
    replica = await world.replica()
    with pytest.raises(ConsentRequiredError):
        await replica.get("read", "trade", grant="fresh")
    assert [] == world.endpoint.requests


async def test_token_of_another_endpoint_wants_consent(world: World, replica: Replica) -> None:
    """A refresh token sealed for a former endpoint is not sent to the new one; the grant is not in doubt."""
    await world.put(replace(PROVIDER, token_url="https://elsewhere.example/token"))
    await replica.view.catch_up(await world.store.read_version())
    caught = await refused(replica)
    assert (ConsentRequiredError, "token_sealed_elsewhere") == (type(caught), caught.cause)
    assert [] == world.endpoint.requests
    assert Phase.IDLE is world.state("person").phase


async def test_private_key_jwt_sends_an_assertion() -> None:
    """Where the provider wants a signed assertion, the secret itself stays here."""
    world = await new_world(replace(PROVIDER, token_endpoint_auth=TokenEndpointAuth.PRIVATE_KEY_JWT))
    replica = await world.replica()
    await replica.get()
    sent = world.endpoint.requests[0]
    assert "assertion-of-desk-app" == sent["client_assertion"]
    assert SECRET not in str(sent)


async def test_a_provider_s_own_deadline() -> None:
    """A provider that is configured to answer sooner is waited for no longer."""
    world = await new_world(replace(PROVIDER, refresh_reply_deadline=7))
    await whole(await world.replica())
    assert [7.0] == world.endpoint.deadlines


async def test_replay_window_leaves_time_for_a_replay() -> None:
    """With a window the reply is waited for a third of it at most, and the window's end is noted less a margin."""
    world = await new_world(replace(PROVIDER, replay_window=90))
    replica = await world.replica()
    seen = []

    async def look() -> None:
        seen.append(world.state("person").replay_until)

    world.store.after["Sent"] = look
    await whole(replica)
    assert [30.0] == world.endpoint.deadlines
    now = int(world.clock.boottime() * 1000)
    assert [now + 90_000 - 30_000 - TIMES.replay_margin] == seen


# --- the licence to write --------------------------------------------------------------------------------------------


async def test_late_licence_sends_nothing(world: World, replica: Replica) -> None:
    """SENT that took a second or more is no licence: nothing is written, the store is to blame, nothing is in doubt."""

    async def late() -> None:
        world.clock.advance(1)

    world.store.after["Sent"] = late
    caught = await refused(replica)
    assert (StoreUnavailableError, "withheld") == (type(caught), caught.cause)
    assert [] == world.endpoint.requests
    state = world.state("person")
    assert (Phase.IDLE, None, 0) == (state.phase, state.first_sent_at, state.sends)
    assert ["not_sent"] == [line.outcome for line in await world.attempts("person")]
    del world.store.after["Sent"]
    assert await whole(replica)
    assert 1 == len(world.endpoint.requests)


async def test_grant_held_while_connecting_is_not_sent(world: World, replica: Replica) -> None:
    """A freeze that comes before SENT withholds the request; whoever asks again is told of it."""

    async def freeze() -> None:
        await world.hold("person")

    world.endpoint.connect = freeze
    caught = await refused(replica)
    assert (GrantConflictError, "withheld") == (type(caught), caught.cause)
    assert [] == world.endpoint.requests
    assert (Phase.IDLE, None) == (world.state("person").phase, world.state("person").first_sent_at)
    assert GrantHeldError is type(await refused(replica))


async def test_freeze_after_sent_loses_nothing(world: World, replica: Replica) -> None:
    """The token that comes back to a frozen grant is kept and current; nobody is served."""
    world.endpoint.hold = asyncio.Event()
    asked = asyncio.create_task(whole(replica))
    await until(lambda: len(world.endpoint.requests) == 1)
    await world.hold("person")
    world.endpoint.hold.set()
    with pytest.raises(GrantHeldError):
        await asked
    assert "canary-rt-1" == await world.refresh_token("person")


@pytest.mark.parametrize("hold", [Hold.REVOKING, Hold.REVOKED])
async def test_token_for_a_revoked_grant_is_kept_but_not_used(world: World, replica: Replica, hold: Hold) -> None:
    """A token that comes back after a revocation is stored, so that it can be revoked as well; nobody is served."""
    world.endpoint.hold = asyncio.Event()
    asked = asyncio.create_task(refused(replica))
    await until(lambda: len(world.endpoint.requests) == 1)
    await world.hold("person", hold)
    world.endpoint.hold.set()
    caught = await asked
    assert (GrantConflictError, "landed_elsewhere") == (type(caught), caught.cause)
    assert 2 == len(world.state("person").tokens)
    assert FIRST == await world.refresh_token("person")


async def test_refusal_that_comes_after_a_new_consent(world: World, replica: Replica) -> None:
    """invalid_grant for a token of an older login is no verdict on the new one."""
    world.endpoint.hold = asyncio.Event()
    world.endpoint.answers = [error("invalid_grant")]
    asked = asyncio.create_task(refused(replica))
    await until(lambda: len(world.endpoint.requests) == 1)
    await world.consent("person", "canary-rt-new")
    world.endpoint.hold.set()
    caught = await asked
    assert (GrantConflictError, "refused_elsewhere") == (type(caught), caught.cause)
    assert Health.OK is world.state("person").health
    assert "canary-rt-new" == await world.refresh_token("person")


# --- many callers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["desk", "person"])
async def test_herd_makes_one_call(world: World, replica: Replica, name: str) -> None:
    """200 callers at once: one call to the provider, one read of the grant, everybody served."""
    world.store.calls.clear()
    asked = [replica.get("read", "trade", grant=name) for _ in range(200)]
    issued = await asyncio.gather(*asked)
    assert 1 == len(world.endpoint.requests)
    assert 1 == len({token.fingerprint for token in issued})
    assert 1 == world.store.calls.count("find_grant")
    assert 200 == len(world.audit.events)


async def test_sets_of_one_grant_are_served_one_after_the_other(world: World) -> None:
    """Each set is redeemed with the token the one before brought; LAND lies between."""
    await world.put(NARROWING)
    replica = await world.replica()
    sets = (("read",), ("trade",), ("read", "trade"), ("account:information",))
    issued = await asyncio.gather(*(replica.get(*scopes, grant="person") for scopes in sets for _ in range(5)))
    assert 20 == len(issued)
    assert [FIRST, "canary-rt-1", "canary-rt-2", "canary-rt-3"] == [
        request["refresh_token"] for request in world.endpoint.requests
    ]
    assert 4 == len({token.fingerprint for token in issued})


async def test_sets_that_wait_are_served_in_one_tenure(world: World) -> None:
    """The owner keeps the grant for the sets that wait here, LAND after each; others get it after the last."""
    await world.put(NARROWING)
    replica, other = await world.replica(), await world.replica("b")
    world.endpoint.hold = asyncio.Event()
    asked = [asyncio.create_task(replica.get(*scopes, grant="person")) for scopes in (("read",), ("trade",))]
    await until(lambda: len(world.endpoint.requests) == 1 and replica.obtain._waiting == 2)
    elsewhere = asyncio.create_task(other.get("read", "trade", grant="person"))
    await until(lambda: other.obtain._waiting == 1)
    world.endpoint.hold.set()
    await asyncio.gather(*asked)
    await let_pass(world.clock, elsewhere)
    assert [" ".join(READ), " ".join(TRADE), " ".join(ALL)] == [sent["scope"] for sent in world.endpoint.requests]
    assert ["a", "a", "b"] == [record.owner for record in reversed(await world.attempts("person"))]
    assert [2, 3, 4] == [record.attempt for record in reversed(await world.attempts("person"))]
    assert {} == replica.refresh._kept


@pytest.mark.parametrize("away", [False, True])
async def test_a_lease_kept_for_nobody_is_given_back(world: World, away: bool) -> None:
    """Whoever waited may hang up at the last moment: the grant is free at once, or once its lease is over."""
    await world.put(NARROWING)
    replica = await world.replica()
    world.endpoint.hold = asyncio.Event()
    served = asyncio.create_task(replica.get("read", grant="person"))
    await until(lambda: len(world.endpoint.requests) == 1)
    queued = asyncio.create_task(replica.get("trade", grant="person"))
    await until(lambda: replica.obtain._waiting == 2)

    async def hang_up() -> None:
        queued.cancel()
        await asyncio.wait([queued])
        if away:
            world.store.away.add("NotSent")

    world.store.after["finish"] = hang_up
    world.endpoint.hold.set()
    await served
    await replica.obtain.aclose(20)
    assert (Phase.PREPARED if away else Phase.IDLE) is world.state("person").phase
    assert {} == replica.refresh._kept
    world.clock.advance(TIMES.lease / 1000)
    assert "provider" == (await replica.get("trade", grant="person")).source


async def test_a_set_found_in_the_store_meanwhile_ends_the_tenure(world: World) -> None:
    """A lease kept for a set that another replica had brought already is given back unspent."""
    await world.put(NARROWING)
    replica, other = await world.replica(), await world.replica("b")
    await other.get("trade", grant="person")
    world.endpoint.hold = asyncio.Event()
    asked = [asyncio.create_task(replica.get(*scopes, grant="person")) for scopes in (("read",), ("trade",))]
    await until(lambda: len(world.endpoint.requests) == 2 and replica.obtain._waiting == 2)
    world.endpoint.hold.set()
    assert ["provider", "store"] == [issued.source for issued in await asyncio.gather(*asked)]
    await replica.obtain.aclose(20)
    assert Phase.IDLE is world.state("person").phase


async def test_failure_reaches_each_waiter_as_an_error_of_its_own(world: World, replica: Replica) -> None:
    """Waiters share the outcome, not the exception."""
    world.endpoint.answers = [error("x", 503)]
    errors = await asyncio.gather(*(replica.get() for _ in range(5)), return_exceptions=True)
    assert [ProviderUnavailableError] * 5 == [type(caught) for caught in errors]
    assert 5 == len({id(caught) for caught in errors})
    assert 1 == len(world.endpoint.requests)


@pytest.mark.parametrize("name", ["desk", "person"])
async def test_a_caller_s_fifth_scope_set_is_too_many(world: World, name: str) -> None:
    """The set past a caller's share is refused while the others live; those are served, and so are other callers."""
    await world.put(NARROWING, policy("news", "key:news", name, "read trade"))
    replica = await world.replica()
    sets = (("read",), ("trade",), READ[:1], READ[1:])
    for scopes in sets:
        await replica.get(*scopes, grant=name)
    for _ in range(2):
        with pytest.raises(ScopeSetsError) as caught:
            await replica.get("read", "trade", grant=name)
        assert {"maximum": "4"} == caught.value.metadata
    assert "memory" == (await replica.get("read", grant=name)).source
    assert "provider" == (await replica.get("read", "trade", grant=name, caller="news")).source
    assert "memory" == (await replica.get("read", "trade", grant=name)).source
    world.clock.advance(3600)
    assert "provider" == (await replica.get("read", "trade", grant=name)).source


async def test_too_many_waiters_are_shed(world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound callers are told to come back, and a place is free again once a waiter left."""
    monkeypatch.setattr(obtain, "MAX_WAITING", 2)
    world.endpoint.hold = asyncio.Event()
    waiting = [asyncio.create_task(replica.get()) for _ in range(2)]
    await until(lambda: len(world.endpoint.requests) == 1 and replica.obtain._waiting == 2)
    with pytest.raises(BrokerError) as caught:
        await replica.get("trade")
    assert (Reason.OVERLOADED, 1.0) == (caught.value.reason, caught.value.retry_after)
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    third = asyncio.create_task(replica.get())
    await until(lambda: replica.obtain._waiting == 2)
    world.endpoint.hold.set()
    assert "provider" == (await waiting[1]).source
    assert "provider" == (await third).source


# --- callers that hang up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(0, 40, 1))
async def test_redeem_reaches_its_end_whenever_the_caller_hangs_up(turns: int) -> None:
    """A caller cancelled at any turn of the loop leaves the grant idle, with the token the provider holds live."""
    world = await new_world()
    replica = await world.replica()
    asked = asyncio.create_task(whole(replica))
    for _ in range(turns):
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    await replica.obtain.aclose(20)
    assert (Phase.IDLE, Health.OK) == (world.state("person").phase, world.state("person").health)
    assert world.endpoint.live == await world.refresh_token("person")
    assert {} == replica.obtain._queues
    assert "canary-rt-1" == world.endpoint.live or not world.endpoint.requests
    assert await whole(replica) in {"provider", "memory"}


async def test_wish_nobody_waits_for_any_more_is_dropped(world: World) -> None:
    """What has not begun when its last waiter hangs up is not redeemed and not kept in mind."""
    await world.put(NARROWING)
    replica = await world.replica()
    world.endpoint.hold = asyncio.Event()
    served = asyncio.create_task(replica.get("read", grant="person"))
    await until(lambda: len(world.endpoint.requests) == 1)
    queued = [asyncio.create_task(replica.get("trade", grant="person")) for _ in range(2)]
    await until(lambda: replica.obtain._waiting == 3)
    queued[0].cancel()
    await asyncio.wait([queued[0]])
    (queue,) = replica.obtain._queues.values()
    assert 2 == len(queue.wishes)
    queued[1].cancel()
    await asyncio.wait([queued[1]])
    assert 1 == len(queue.wishes)
    world.endpoint.hold.set()
    await served
    await replica.obtain.aclose(20)
    assert 1 == len(world.endpoint.requests)


async def test_redeem_whose_callers_hung_up_may_be_joined(world: World, replica: Replica) -> None:
    """What was begun goes on without a waiter, and serves who comes later."""
    world.endpoint.hold = asyncio.Event()
    first = asyncio.create_task(whole(replica))
    await until(lambda: len(world.endpoint.requests) == 1)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(whole(replica))
    await until(lambda: replica.obtain._waiting == 1)
    world.endpoint.hold.set()
    assert "provider" == await second
    assert 1 == len(world.endpoint.requests)


async def test_aclose_waits_for_what_runs(world: World, replica: Replica) -> None:
    """At the end a redeem whose token was sent is waited for, at most as long as told; with none there is no wait."""
    await replica.obtain.aclose(20)
    world.endpoint.hold = asyncio.Event()
    asked = asyncio.create_task(whole(replica))
    await until(lambda: len(world.endpoint.requests) == 1)
    await replica.obtain.aclose(0.001)
    assert Phase.SENT is world.state("person").phase
    closing = asyncio.create_task(replica.obtain.aclose(20))
    world.endpoint.hold.set()
    await closing
    assert "canary-rt-1" == await world.refresh_token("person")
    assert "provider" == await asked


async def test_process_that_ends_leaves_the_grant_in_doubt_not_lost(world: World) -> None:
    """A task ended from outside ends its waiters and those queued; others see the doubt once the lease is over."""
    await world.put(NARROWING)
    replica = await world.replica()
    world.endpoint.hold = asyncio.Event()
    asked = [asyncio.create_task(replica.get(*scopes, grant="person")) for scopes in (("read",), ("trade",))]
    await until(lambda: len(world.endpoint.requests) == 1 and replica.obtain._waiting == 2)
    (task,) = replica.obtain._tasks
    task.cancel()
    await asyncio.wait([task, *asked])
    assert [True, True] == [one.cancelled() for one in asked]
    assert {} == replica.obtain._queues
    world.clock.advance(TIMES.lease / 1000)
    assert GrantUncertainError is type(await refused(await world.replica("b")))
    assert 1 == len(world.endpoint.requests)


async def test_grant_removed_under_the_lease(world: World, replica: Replica) -> None:
    """With its token gone there is nothing to send."""

    async def remove() -> None:
        await world.hold("person", Hold.REVOKED)
        await world.remove(Kind.GRANT, "person")

    world.store.before["current_refresh_token"] = remove
    assert ConsentRequiredError is type(await refused(replica))
    assert [] == world.endpoint.requests


async def test_bug_reaches_the_waiters(world: World, replica: Replica) -> None:
    """What is not an error of ours is not swallowed; the queue serves on."""

    async def bug() -> None:
        raise ZeroDivisionError

    world.store.before["Take"] = bug
    with pytest.raises(ZeroDivisionError):
        await whole(replica)
    world.store.before.clear()
    assert "provider" == await whole(replica)
