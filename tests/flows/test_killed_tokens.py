"""Providers at which a refresh ends the access tokens the grant got before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.errors import ScopeConflictError
from tests.flows.world import ALL, NARROWING, World, new_world, tokens

KILLS = replace(NARROWING, refresh_kills_older_access_tokens=True)
WHOLE = ("read", "trade")


async def killing_world() -> World:
    """Return a world with such a provider."""
    return await new_world(KILLS)


async def test_one_set_at_a_time_is_served() -> None:
    """While a token of one set lives, another set is refused: the two would end each other's tokens for ever."""
    world = await killing_world()
    replica, other = await world.replica("a"), await world.replica("b")
    await replica.get("read", grant="person")
    for asked in (replica, other):
        with pytest.raises(ScopeConflictError):
            await asked.get("trade", grant="person")
    assert 1 == len(world.endpoint.requests)
    world.clock.advance(3601)
    await other.get("trade", grant="person")
    with pytest.raises(ScopeConflictError):
        await replica.get("read", grant="person")


async def test_client_credentials_kill_nothing() -> None:
    """Only a refresh does that."""
    world = await killing_world()
    replica = await world.replica()
    await replica.get("read")
    await replica.get("trade")


async def test_a_killed_token_is_served_by_no_replica() -> None:
    """Another replica's refresh ends the token in this one's memory; the call that comes next gets the new one."""
    world = await killing_world()
    one, other = await world.replica("a"), await world.replica("b")
    old = await one.get(*WHOLE, grant="person")
    forced = await other.get(*WHOLE, grant="person", rejected=old.fingerprint)
    assert forced.fingerprint != old.fingerprint
    assert forced.fingerprint == (await one.get(*WHOLE, grant="person")).fingerprint
    assert 2 == len(world.endpoint.requests)


@pytest.mark.parametrize("rotates", [True, False])
async def test_what_is_killed_is_told(rotates: bool) -> None:
    """Whether or not a new refresh token came, those who watch hear of the old access token."""
    world = await killing_world()
    replica = await world.replica()
    old = await replica.get(*WHOLE, grant="person")
    since = await world.store.inner.read_version()
    if not rotates:
        world.endpoint.answers = [tokens(access_token="at-new", scope=" ".join(ALL))]
    await replica.get(*WHOLE, grant="person", rejected=old.fingerprint)
    told = await world.store.inner.ended_since(since, 10)
    assert [old.fingerprint] == [ended.fingerprint for ended in told or ()]


async def test_nothing_is_renewed_ahead() -> None:
    """A renewal would end the token callers work with; they come back when it nears its end."""
    world = await killing_world()
    replica = await world.replica()
    issued = await replica.get(*WHOLE, grant="person")
    await world.store.inner.note_used(list(world.store.inner._access))
    world.clock.advance(3000)
    assert [] == await world.store.inner.due_tokens(10, 1000)
    assert 0.7 * issued.lifetime <= issued.renew_after <= 0.9 * issued.lifetime
