"""The end of a broker, orderly and not: what runs is finished, what is kept is found again, nothing is sent twice."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import psycopg
import pytest

from tests.support.broker import BrokerProcess, start_broker
from tests.support.canary import Seen, search_files
from tests.support.holding_proxy import holding_proxy
from tests.support.postgres import PostgresServer
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.world import CLIENT_ID, World, connected, postgres_environment, provider, sandbox_config

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _settings(store: str, postgres: PostgresServer, data: Path) -> dict[str, str]:
    return {} if store == "sqlite" else await postgres_environment(postgres, data)


def _tokens(sandbox: SandboxDriver) -> list[tuple[bool, bool]]:
    """Return of every refresh token, oldest first, whether it was used and whether its family was ended."""
    tokens = sandbox.running.state.refresh_tokens.values()
    return [(token.used_at is not None, token.family.revoked) for token in tokens]


async def _again(stack: AsyncExitStack, old: World, process: BrokerProcess) -> World:
    """Return the world as the next broker on the same data sees it."""
    facts = {"seen": old.seen, "admin_key": old.admin_key, "revision": old.revision}
    return await stack.enter_async_context(connected(process, old.sandbox, **facts))


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_sigterm_finishes_what_runs(store: str, postgres: PostgresServer, tmp_path: Path) -> None:
    """A redeem under way is answered, new calls are not taken, exit code 0; the next broker goes on with its token."""
    data = tmp_path / "data"
    env = await _settings(store, postgres, data)
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox(sandbox_config()))
        proxy = await stack.enter_async_context(holding_proxy(sandbox.url))
        first = await start_broker(data, env=env)
        stack.callback(_kill, first)
        world = await stack.enter_async_context(connected(first, sandbox, seen=Seen()))
        await world.apply(provider("aries", proxy.url))
        desk = await world.desk("refresh_token")

        proxy.hold()
        running = asyncio.create_task(desk.get("read"))
        await proxy.asked.wait()
        first.process.send_signal(signal.SIGTERM)
        await _until_refused(first)
        assert not running.done()
        proxy.release()
        assert (await running).access_token
        assert 0 == await first.stop()
        assert [(True, False), (True, False), (False, False)] == _tokens(sandbox)
        last_words = [event["event"] for event in first.events()][-2:]
        assert ["stopping", "stopped"] == last_words

        second = await start_broker(data, env=env)
        stack.callback(_kill, second)
        desk.world = await _again(stack, world, second)
        calls = (await sandbox.counters())["token_calls"]
        assert (await running).access_token == (await desk.get("read")).access_token
        assert calls == (await sandbox.counters())["token_calls"]
        assert (await desk.get("trade")).access_token
        assert [(True, False)] * 3 + [(False, False)] == _tokens(sandbox)
        actions = [event.action for event in await desk.world.events()]
        assert (1, 2) == (actions.count("broker:stop"), actions.count("broker:start"))
        assert 0 == await second.stop()
    for process in (first, second):
        world.seen.add("log", bytes(process.output))
    assert [] == world.seen.leaks()
    assert [] == search_files(data, CLIENT_ID).leaks


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_sigkill_after_the_token_was_sent(store: str, postgres: PostgresServer, tmp_path: Path) -> None:
    """Nobody knows what became of the token, so the next broker says just that and does not send it again."""
    data = tmp_path / "data"
    env = await _settings(store, postgres, data)
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox(sandbox_config()))
        proxy = await stack.enter_async_context(holding_proxy(sandbox.url))
        first = await start_broker(data, env=env)
        stack.callback(_kill, first)
        world = await stack.enter_async_context(connected(first, sandbox, seen=Seen()))
        await world.apply(provider("aries", proxy.url))
        desk = await world.desk("refresh_token")

        proxy.hold()
        running = asyncio.create_task(desk.refused("read"))
        await proxy.asked.wait()
        assert -signal.SIGKILL == await first.stop(signal.SIGKILL)
        assert grpc.StatusCode.UNAVAILABLE == (await running).status
        proxy.release()
        if store == "postgres":  # where a killed owner's lease has to end by itself, which takes 15 s
            _end_leases(env["BROKER_DATABASE_URL"])

        second = await start_broker(data, env=env)
        stack.callback(_kill, second)
        desk.world = await _again(stack, world, second)
        calls = (await sandbox.counters())["token_calls"]
        assert "GRANT_UNCERTAIN" == (await desk.refused("read")).reason
        assert "GRANT_UNCERTAIN" == (await desk.refused("trade")).reason
        assert ("unknown", "ok") == await desk.state()
        assert calls == (await sandbox.counters())["token_calls"]
        assert [(True, False), (True, False), (False, False)] == _tokens(sandbox)
        assert 0 == await second.stop()
    world.seen.add("log", bytes(second.output))
    assert [] == world.seen.leaks()
    assert [] == search_files(data, CLIENT_ID).leaks


async def _until_refused(process: BrokerProcess) -> None:
    """Return once the broker takes no further calls."""
    async with asyncio.timeout(10):
        while "stopping" not in [event["event"] for event in process.events()]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
        host, _, port = process.address.rpartition(":")
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.01)


def _end_leases(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE grants SET lease_until = 0")


def _kill(process: BrokerProcess) -> None:
    """End a broker that a failed test left running."""
    if process.process.returncode is None:
        process.process.kill()
