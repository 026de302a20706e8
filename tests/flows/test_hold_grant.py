"""Freezing, letting go, revoking, and an operator's word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core import lease
from broker.core.errors import (
    GrantConflictError,
    GrantHeldError,
    GrantUncertainError,
    InvalidRequestError,
    NotFoundError,
)
from broker.core.grant_state import Hold, Phase
from broker.flows.hold_grant import Step
from broker.flows.tend_grants import AT_ONCE
from broker.flows.trail import Trail
from tests.flows.world import FIRST, NARROWING, PROVIDER, Replica, World, error, new_world, reply
from tests.support.times import TIMES

REVOKES = replace(NARROWING, revocation_url="https://id.example/revoke")
WHOLE = ("read", "trade")


def trail() -> Trail:
    """Return an operator's trail."""
    return Trail("Freeze", "peer", "r1", actor="key:ops")


async def tended(replica: Replica) -> None:
    """Look after all grants, to the end."""
    await replica.tend.look()
    await replica.tend.aclose(5)


async def revoked_world(*, provider: object = REVOKES) -> tuple[World, Replica]:
    """Return a world whose grant `person` got two access tokens and was then revoked."""
    assert isinstance(provider, type(PROVIDER))
    world = await new_world(provider)
    replica = await world.replica()
    await replica.get("read", grant="person")
    await replica.get(*WHOLE, grant="person")
    await replica.hold("person", lease.Revoke(), trail())
    return world, replica


async def test_a_frozen_grant_gives_nothing_until_it_is_let_go() -> None:
    """From the commit on every replica refuses, cached token or not; what is in callers' hands is named."""
    world = await new_world()
    one, other = await world.replica("a"), await world.replica("b")
    handed_out = await one.get(*WHOLE, grant="person")
    held = await one.hold("person", lease.Freeze(), trail())
    assert [handed_out.fingerprint] == [token.fingerprint for token in held.live]
    for replica in (one, other):
        with pytest.raises(GrantHeldError):
            await replica.get(*WHOLE, grant="person")
    await other.hold("person", lease.Unfreeze(), trail())
    await one.view.catch_up(await world.store.inner.read_version())
    assert handed_out.fingerprint == (await one.get(*WHOLE, grant="person")).fingerprint
    assert 1 == len(world.endpoint.requests)


async def test_a_revoked_grant_s_tokens_are_ended_at_the_provider() -> None:
    """The current refresh token is told of, spent ones are not, then the access tokens; all are wiped here."""
    world, replica = await revoked_world()
    await tended(replica)
    assert [("refresh_token", "canary-rt-2"), ("access_token", "at-1"), ("access_token", "at-2")] == sorted(
        world.endpoint.ended, reverse=True
    )[:1] + sorted(world.endpoint.ended)[:2]
    assert 3 == len(world.endpoint.ended)
    assert Hold.REVOKED is world.state("person").hold
    assert None is await world.store.inner.current_refresh_token("id-person")
    with pytest.raises(GrantHeldError):
        await replica.get(*WHOLE, grant="person")


async def test_a_provider_without_revocation_is_told_nothing() -> None:
    """The tokens are wiped here all the same."""
    world, replica = await revoked_world(provider=NARROWING)
    await tended(replica)
    assert [] == world.endpoint.ended
    assert Hold.REVOKED is world.state("person").hold
    assert None is await world.store.inner.current_refresh_token("id-person")


async def test_an_exchanged_token_is_told_of_while_its_window_lasts() -> None:
    """In a replay window a spent token may still bring siblings."""
    world, replica = await revoked_world(provider=replace(REVOKES, replay_window=60))
    await tended(replica)
    refreshed = [token for kind, token in world.endpoint.ended if kind == "refresh_token"]
    assert ["canary-rt-2", "canary-rt-1", FIRST] == refreshed


@pytest.mark.parametrize("answer", [error("x", 503), error("invalid_client", 401), reply(404, {})])
async def test_what_the_provider_did_not_take_is_told_again(answer: object) -> None:
    """The grant stays revoking, gives nothing, keeps its token, and is tried again after a while, not before."""
    world, replica = await revoked_world()
    world.endpoint.on_end = [answer]  # type: ignore[list-item]
    await tended(replica)
    await tended(replica)
    assert (1, Hold.REVOKING) == (len(world.endpoint.ended), world.state("person").hold)
    world.clock.advance(60)
    await tended(replica)
    assert Hold.REVOKED is world.state("person").hold


async def test_a_provider_that_ends_no_such_tokens_is_believed() -> None:
    """unsupported_token_type is the last word (RFC 7009 §2.2.1)."""
    world, replica = await revoked_world()
    world.endpoint.on_end = [error("unsupported_token_type")] * 3
    await tended(replica)
    assert (3, Hold.REVOKED) == (len(world.endpoint.ended), world.state("person").hold)


async def test_a_redeem_under_way_is_waited_for() -> None:
    """Its token is kept, not made current, and then told of."""
    world = await new_world(REVOKES)
    replica = await world.replica()

    async def revoke() -> None:
        await replica.hold("person", lease.Revoke(), trail())
        await tended(replica)
        assert [] == world.endpoint.ended

    world.store.before["keep_and_land"] = revoke
    with pytest.raises(GrantConflictError):
        await replica.get(*WHOLE, grant="person")
    world.clock.advance(TIMES.lease / 1000)
    await tended(replica)
    assert ["canary-rt-1"] == [token for kind, token in world.endpoint.ended if kind == "refresh_token"]
    assert Hold.REVOKED is world.state("person").hold


async def test_client_credentials_are_revoked_too() -> None:
    """There is no refresh token; the access tokens are told of."""
    world = await new_world(REVOKES)
    replica = await world.replica()
    await replica.get()
    await replica.hold("desk", lease.Revoke(), trail())
    await tended(replica)
    assert [("access_token", "at-1")] == world.endpoint.ended
    assert Hold.REVOKED is world.state("desk").hold


async def test_a_token_of_an_older_login_is_ended() -> None:
    """A redeem that was under way when a person logged in anew brings a token nobody will use: the provider hears."""
    world = await new_world(REVOKES)
    replica = await world.replica()

    async def log_in() -> None:
        del world.store.before["keep_and_land"]
        await world.consent("person", "canary-rt-new")
        world.clock.advance(0.001)

    world.store.before["keep_and_land"] = log_in
    world.endpoint.live = FIRST
    with pytest.raises(GrantConflictError):
        await replica.get(*WHOLE, grant="person")
    await tended(replica)
    assert [("refresh_token", "canary-rt-1")] == world.endpoint.ended
    assert "canary-rt-new" == await world.refresh_token("person")


async def test_an_operator_s_word_lets_a_grant_in_doubt_try_again() -> None:
    """A replica that will not come back left nothing behind: the token is probed without the wait."""
    world = await new_world()
    replica = await world.replica()
    await replica.heart.beat()
    await world.send_and_vanish("person")
    world.clock.advance(TIMES.in_flight / 1000 + TIMES.lease / 1000)
    await replica.heart.beat()
    with pytest.raises(GrantUncertainError):
        await replica.get(*WHOLE, grant="person")
    await replica.hold("person", lease.Settle(), trail())
    await tended(replica)
    assert [FIRST] == [request["refresh_token"] for request in world.endpoint.requests]
    assert "canary-rt-1" == await world.refresh_token("person")
    assert Phase.IDLE is world.state("person").phase


@pytest.mark.parametrize(
    ("name", "step", "kind"),
    [
        ("nobody", lease.Freeze(), NotFoundError),
        ("person", lease.Unfreeze(), InvalidRequestError),
        ("person", lease.Settle(), InvalidRequestError),
        ("desk", lease.Settle(), InvalidRequestError),
    ],
)
async def test_what_cannot_be_done_says_why(name: str, step: Step, kind: type[Exception]) -> None:
    """Nothing is written and no event told."""
    world = await new_world()
    replica = await world.replica()
    before = await world.store.inner.read_version()
    with pytest.raises(kind):
        await replica.hold(name, step, trail())
    assert before == await world.store.inner.read_version()


async def test_twice_is_said() -> None:
    """A grant frozen or revoked already says so."""
    world = await new_world()
    replica = await world.replica()
    for step in (lease.Freeze(), lease.Revoke()):
        await replica.hold("person", step, trail())
        with pytest.raises(InvalidRequestError):
            await replica.hold("person", step, trail())


async def test_a_provider_that_hangs_holds_up_few() -> None:
    """As many grants are worked on at once, and a grant that is worked on is not begun again."""
    world = await new_world(REVOKES)
    assert AT_ONCE > 1
    replica = await world.replica()
    await replica.get(*WHOLE, grant="person")
    await replica.hold("person", lease.Revoke(), trail())
    await replica.tend.look()
    await tended(replica)
    assert 1 == len([token for kind, token in world.endpoint.ended if kind == "refresh_token"])
