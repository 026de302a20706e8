"""Replicas, callers, a provider and a store that all misbehave at random: what must hold whatever happens."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from broker.core.errors import BrokerError, StoreUnavailableError
from broker.core.grant_state import Health, Phase
from broker.core.oauth.rfc6749 import HttpReply
from broker.ports import NotSentError, ReplyLostError
from tests.flows.world import NARROWING, Endpoint, Replica, World, error, let_pass, new_world, reply, tokens

SETS = (("read",), ("trade",), ("read", "trade"), ("account:information",))
UNSPENT = (lambda: error("x", 429), lambda: error("invalid_client", 401), lambda: error("invalid_scope"))
STEPS = ("Take", "Sent", "NotSent", "NotConsumed", "Unknown", "keep_and_land", "finish", "record_attempt")


class Moody(Endpoint):
    """A strict provider: a token it took is dead, and one presented again is a reuse."""

    random: Random
    spent: set[str]
    reused: bool

    def usual(self, parameters: dict[str, str], number: int) -> HttpReply:  # type: ignore[override]  # narrower
        if self.random.random() < 0.2:
            return self.random.choice(UNSPENT)()
        presented = parameters["refresh_token"]
        self.reused |= presented in self.spent
        self.spent.add(presented)
        self.live = f"canary-rt-{number}"
        mood = self.random.random()
        if mood < 0.03:
            raise ReplyLostError("reset")
        if mood < 0.06:
            return reply(500, {})
        if mood < 0.2:
            return tokens(access_token="bad token", refresh_token=self.live)
        return tokens(access_token=f"at-{number}", scope=parameters["scope"], refresh_token=self.live)


async def stormy(seed: int) -> tuple[World, Moody, list[Replica]]:
    """Return a world in which every step of the redeem fails now and then, before or after its commit."""
    random = Random(seed)
    world = await new_world(NARROWING)
    endpoint = Moody()
    endpoint.random, endpoint.spent, endpoint.reused = random, set(), False
    world.endpoint = endpoint

    async def connect() -> None:
        if random.random() < 0.1:
            raise NotSentError("connect")

    async def fail() -> None:
        if random.random() < 0.08:
            raise StoreUnavailableError("away")

    endpoint.connect = connect
    for step in STEPS:
        world.store.before[step] = fail
        if step not in {"Take", "keep_and_land", "finish"}:  # their ports read an unheard commit back
            world.store.after[step] = fail
    return world, endpoint, [await world.replica(owner) for owner in "ab"]


@pytest.mark.parametrize("seed", range(24))
async def test_no_token_is_lost_or_spent_twice(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token the provider took is sent again; unless the grant is in doubt or refused, its token is the live one."""
    monkeypatch.setattr("broker.flows.until_stored.FIRST_PAUSE", 0.001)
    world, endpoint, replicas = await stormy(seed)
    random = Random(1000 + seed)
    asked: list[asyncio.Task[object]] = []
    for _ in range(40):
        replica, scopes = random.choice(replicas), random.choice(SETS)
        asked.append(asyncio.create_task(replica.get(*scopes, grant="person")))
        for _ in range(random.randrange(30)):
            await asyncio.sleep(0)
        if random.random() < 0.2:
            random.choice(asked).cancel()
        world.clock.advance(random.choice((0, 1, 30, 4000)))
    outcomes = await let_pass(world.clock, asyncio.gather(*asked, return_exceptions=True))
    world.store.before.clear()
    world.store.after.clear()
    for replica in replicas:
        await let_pass(world.clock, asyncio.ensure_future(replica.obtain.aclose(20)))
        assert {} == replica.obtain._queues
    unexpected = [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, BrokerError)]
    assert [] == unexpected
    assert not endpoint.reused
    state = world.state("person")
    assert state.phase in {Phase.IDLE, Phase.PREPARED, Phase.UNKNOWN}  # a lease nobody could give back ends by itself
    assert Health.OK is state.health
    if state.phase is not Phase.UNKNOWN:
        assert endpoint.live == await world.refresh_token("person")
