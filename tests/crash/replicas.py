"""Several brokers on one PostgreSQL, and callers that ask another one when theirs is gone."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import grpc

from aries_broker.errors import BrokerError
from tests.crash.broker_with_faults import QUICK
from tests.crash.lives import AGAIN, PATIENCE, PROGRAM, WINDOW, persist
from tests.support.broker import start_broker
from tests.support.canary import Seen
from tests.support.holding_proxy import HoldingProxy, holding_proxy
from tests.support.postgres import PostgresServer
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.waiting import until, until_told
from tests.support.world import Desk, World, connected, postgres_environment, provider, sandbox_config

SCOPE: Final = "read"
"""The whole of a grant; what its import brought has ended."""
REPLY_SECONDS: Final = 0.2
"""How long the provider takes, so that a death often falls between the request and the reply."""
SERVICES: Final = 6
"""One may have 200 calls open at a broker."""
ASK_ANOTHER: Final = frozenset({"", "AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE"})
"""Why a caller goes to the next replica: its own is gone, or has too much to do for a second."""
IN_DOUBT: Final = frozenset({"GRANT_UNCERTAIN", "GRANT_QUARANTINED", "GRANT_CONFLICT", "PROVIDER_UNAVAILABLE"})
"""What a caller may be told instead of a token where a replica died with the token under way."""


@dataclass
class Replicas:
    """Brokers on one database.

    Attributes:
        line: the brokers' way to the sandbox, whose answers can be held there.
        worlds: each broker as its callers see it.
        keys: of services that may use every grant.
    """

    folder: Path
    env: dict[str, str]
    sandbox: SandboxDriver
    line: HoldingProxy
    worlds: list[World]
    keys: list[str]
    _lives: list[AsyncExitStack]

    async def start(self, number: int) -> None:
        """Start a replica, or the successor of one that died, on its own data volume."""
        stack = self._lives[number] = AsyncExitStack()
        process = await start_broker(self.folder / str(number), env=self.env, program=PROGRAM)
        stack.push_async_callback(process.kill)
        key = (self.folder / "0" / "admin.key").read_text().strip()
        world = await stack.enter_async_context(connected(process, self.sandbox, seen=Seen(), admin_key=key))
        if number < len(self.worlds):
            world = replace(world, _numbers=self.worlds[number]._numbers)
            self.worlds[number] = world
        else:
            numbers = self.worlds[0]._numbers if self.worlds else itertools.count(1)
            self.worlds.append(replace(world, _numbers=numbers))

    async def end(self, number: int) -> None:
        """Let go of a replica, and kill it if it lives."""
        await self._lives[number].aclose()

    async def expired_grant(self, name: str = "strict") -> Desk:
        """Return a grant at a provider, known to every replica, whose only access token has ended."""
        await self.sandbox.behave(access_token_seconds=1)
        desk = await persist(lambda: self.worlds[0].desk("refresh_token", scopes=["read"], provider=name))
        ended = time.monotonic() + 1
        await self.sandbox.behave(access_token_seconds=3600)
        for world in self.worlds:
            await world.grant_status(desk.grant)  # an operator's call makes a broker look at what changed
        await until_told(lambda: _is_over(ended), AGAIN)
        return desk

    def at(self, number: int, desk: Desk) -> Desk:
        """Return a service's desk at a replica."""
        return replace(desk, world=self.worlds[number])


async def _is_over(moment: float) -> bool:
    return time.monotonic() > moment


@asynccontextmanager
async def replicas(folder: Path, postgres: PostgresServer, number: int) -> AsyncIterator[Replicas]:
    """Start so many brokers on a database of their own, with one sandbox that they know as strict, and as windowed."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox(sandbox_config()))
        line = await stack.enter_async_context(holding_proxy(sandbox.url))
        (folder / "plan").write_text("")
        env = {**await postgres_environment(postgres, folder / "0"), "CRASH_PLAN": str(folder / "plan")}
        every = Replicas(folder, env, sandbox, line, [], [], [AsyncExitStack() for _ in range(number)])
        for one in range(number):
            stack.push_async_callback(every.end, one)
            await every.start(one)
        await every.worlds[0].apply(provider("strict", line.url), provider("windowed", line.url, replay_window=WINDOW))
        for name in ("strict", "windowed"):
            await persist(partial(every.worlds[0].prove_narrowing, name))
        for _ in range(SERVICES):
            caller, key = await every.worlds[0].new_key()
            await every.worlds[0].allow(caller, ["grant-*"])
            every.keys.append(key)
        yield every


# --- a herd ----------------------------------------------------------------------------------------------------------


async def herd(every: Replicas, desk: Desk, callers: int) -> Counter[str]:
    """Let so many callers ask at the same moment, spread over the replicas; return what they were answered."""
    answers = await asyncio.gather(*(_ask(every, desk, number) for number in range(callers)))
    return Counter(answers)


async def _ask(every: Replicas, desk: Desk, number: int) -> str:
    """Return a token, or why there is none; a caller whose replica cannot answer goes to the next."""
    key = every.keys[number % len(every.keys)]
    for turn in range(2 * len(every.worlds)):
        world = every.worlds[(number // len(every.keys) + turn) % len(every.worlds)]
        try:
            return (await world.get_token(key, SCOPE, grant=desk.grant, deadline=PATIENCE)).access_token
        except BrokerError as error:
            if error.status is not grpc.StatusCode.UNAVAILABLE or error.reason not in ASK_ANOTHER:
                return error.reason or str(error.status)
    return "nobody is there"


@dataclass(frozen=True)
class Round:
    """What happened while a replica was killed.

    Attributes:
        answers: how many got a token, and how many which reason.
        calls: at the token endpoint, until the grant came to rest.
        reuses: of a spent token.
        probes: sends of a token whose fate nobody knew.
        wrong: what must not happen.
    """

    answers: Counter[str]
    calls: int
    reuses: int
    probes: int
    wrong: str


async def round_with_a_death(every: Replicas, callers: int, random: Random) -> Round:
    """Kill a replica, chosen by chance, at a moment chosen by chance, while a herd wants one expired grant.

    Most moments count from the call at the provider on: what comes before takes longer, and would be hit alone.
    """
    desk = await every.expired_grant()
    counters = every.sandbox.running.state.counters
    calls, reuses = counters.token_calls, counters.reuses
    await every.sandbox.fail(body="true", when="after", delay_seconds=REPLY_SECONDS)
    victim, moment = random.randrange(len(every.worlds)), random.uniform(0, 1.25 * REPLY_SECONDS)
    process = every.worlds[victim].process.process
    waiting = asyncio.create_task(herd(every, desk, callers))
    if random.randrange(4):
        await until(lambda: counters.token_calls > calls)
    asyncio.get_running_loop().call_later(moment, process.kill)
    answers = await waiting
    await process.wait()
    await every.end(victim)
    await every.sandbox.clear_failures()
    await every.start(victim)
    at_rest = await _at_rest(every.worlds[victim - 1], desk)
    calls, reuses = counters.token_calls - calls, counters.reuses - reuses
    history = (await every.worlds[victim].grant_status(desk.grant)).attempts
    probes = probes_in([(each.outcome, each.recorded_at.ToMilliseconds()) for each in history])
    told = Counter("token" if answer.count(".") == 2 else answer for answer in answers.elements())
    return Round(told, calls, reuses, probes, _wrong(told, at_rest, calls, reuses, probes))


def probes_in(history: Sequence[tuple[str, int]]) -> int:
    """Count the probes in a grant's history, newest first: a send that followed one without an outcome, long after.

    A provider without a window is sent a token again in no other way.
    """
    probes = 0
    for (_, later), (outcome, earlier) in itertools.pairwise(history):
        probes += outcome in {"", "unknown"} and later - earlier >= QUICK.in_flight
    return probes


def _wrong(told: Counter[str], at_rest: str, calls: int, reuses: int, probes: int) -> str:
    if unheard := set(told) - IN_DOUBT - {"token"}:
        return f"callers were told {unheard}"
    if reuses > probes:
        return "a spent token was sent without a probe"
    if calls > 1 + probes:
        return "more than one call"
    if not at_rest:
        return "the grant did not come to rest"
    return ""


async def _at_rest(world: World, desk: Desk) -> str:
    """Wait until nobody doubts the grant any more; return how it stands, or nothing."""
    health = ""

    async def rests() -> bool:
        nonlocal health
        await world.outcome(world.get_token(desk.key, SCOPE, grant=desk.grant))  # who wants a token moves it on
        status = (await world.grant_status(desk.grant)).grant
        health = status.health if status.phase == "idle" else ""
        return bool(health)

    with suppress(TimeoutError):
        await until_told(rests, AGAIN, PATIENCE)
    return health
