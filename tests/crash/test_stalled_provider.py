"""A provider that answers nobody, and a broker with three connections to its database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median

import pytest
import pytest_asyncio

from aries.broker.admin.v1 import config_pb2
from tests.support.broker import start_broker
from tests.support.canary import Seen
from tests.support.postgres import PostgresServer
from tests.support.sandbox import running_sandbox
from tests.support.waiting import until_told
from tests.support.world import Desk, World, connected, postgres_environment, provider, sandbox_config, wire

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

STALLED = 500
CALLERS = 5
"""One may have 200 calls open."""
CALLS = 300
AT_ONCE = 10
SLOWER = 3.0
"""How many times longer a call for a cached token may take: one that waits for a connection takes a hundred times as
long, and a broker with 500 calls open has a little more to do."""


@pytest_asyncio.fixture
async def world(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[World]:
    """A broker with three connections."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox(sandbox_config()))
        env = await postgres_environment(postgres, tmp_path / "data")
        process = await start_broker(tmp_path / "data", env=env, program=("tests.crash.broker_with_few_connections",))
        stack.push_async_callback(process.kill)
        world = await stack.enter_async_context(connected(process, sandbox, seen=Seen()))
        await world.apply(provider("aries", sandbox.url))
        await world.prove_narrowing()
        yield world


async def test_cached_tokens_do_not_wait_for_stalled_refreshes(world: World) -> None:
    """Five hundred refreshes hold no connection while the provider is silent: a cached token takes its usual time."""
    desk = await world.desk("refresh_token", scopes=["read"])
    keys = []
    for _ in range(CALLERS):
        caller, key = await world.new_key()
        await world.allow(caller, ["stalled-*"], ["read"])
        keys.append(key)
    names = [f"stalled-{number}" for number in range(STALLED)]
    for batch in _batches(names):
        await asyncio.gather(*(_grant(world, name) for name in batch))
    await desk.get("read")
    usual = await _median(desk)
    before = world.sandbox.running.state.counters.token_calls
    await world.sandbox.fail(count=STALLED, body="hang", when="before")
    waiting = []
    for batch in _batches(names):  # who waits too long for a connection is refused
        calls = [
            world.get_token(key, "account:information", grant=name, deadline=300.0)
            for name, key in zip(batch, cycle(keys), strict=False)
        ]
        waiting += [asyncio.create_task(world.outcome(call)) for call in calls]
        await until_told(partial(_called, world, before + len(waiting)))
    stalled = await _median(desk)
    open_calls = sum(not task.done() for task in waiting)
    await world.sandbox.clear_failures()
    await asyncio.gather(*waiting)
    print(f"a cached token: {usual * 1000:.2f} ms; beside {open_calls} stalled refreshes {stalled * 1000:.2f} ms")  # noqa: T201 - a report
    assert STALLED == open_calls
    assert SLOWER > stalled / usual


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), AT_ONCE):
        yield names[start : start + AT_ONCE]


async def _called(world: World, calls: int) -> bool:
    return world.sandbox.running.state.counters.token_calls == calls


async def _grant(world: World, name: str) -> None:
    await world.put(grant=config_pb2.Grant(name=name, client="aries", type="refresh_token", scopes=["read"]))
    await world.import_token(name, await world.sandbox.refresh_token(scopes=wire(["read"])))


async def _median(desk: Desk) -> float:
    """Return the seconds that half of the calls, one after the other, took at most."""
    took = []
    for _ in range(CALLS):
        started = time.perf_counter()
        await desk.get("read")
        took.append(time.perf_counter() - started)
    return median(took)
