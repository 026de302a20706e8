"""The end of a broker, orderly and not: what runs is finished, what is kept is found again, nothing is sent twice."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import psycopg
import pytest

from aries.broker.admin.v1 import grants_pb2
from tests.support.broker import BrokerProcess, start_broker
from tests.support.canary import Seen, search_files
from tests.support.holding_proxy import holding_proxy
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.waiting import until, until_told
from tests.support.world import CLIENT_ID, World, connected, postgres_environment, provider, sandbox_config, wire

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _settings(store: str, postgres: PostgresServer, data: Path) -> dict[str, str]:
    return {} if store == "sqlite" else await postgres_environment(postgres, data)


def _tokens(sandbox: SandboxDriver) -> list[tuple[bool, bool]]:
    """Return of every refresh token, oldest first, whether it was used and whether its family was ended."""
    tokens = sandbox.running.state.refresh_tokens.values()
    return [(token.used_at is not None, token.family.revoked) for token in tokens]


async def _again(stack: AsyncExitStack, old: World, process: BrokerProcess) -> World:
    """Return the world as the next broker on the same data sees it."""
    following = connected(process, old.sandbox, seen=old.seen, admin_key=old.admin_key, revision=old.revision)
    return await stack.enter_async_context(following)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_three_lives(store: str, postgres: PostgresServer, tmp_path: Path) -> None:  # noqa: PLR0915 - one story
    """SIGTERM finishes what runs and loses nothing; after SIGKILL the fate of a token sent is unknown, and told so."""
    data = tmp_path / "data"
    env = await _settings(store, postgres, data)
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox(sandbox_config()))
        proxy = await stack.enter_async_context(holding_proxy(sandbox.url))

        # The first life ends by SIGTERM while a redeem is under way.
        first = await _start(stack, data, env)
        world = await stack.enter_async_context(connected(first, sandbox, seen=Seen()))
        await world.apply(provider("aries", proxy.url))
        await world.prove_narrowing()
        await sandbox.reset()
        desk = await world.desk("refresh_token")
        proxy.hold()
        running = asyncio.create_task(desk.get("read"))
        await asyncio.wait_for(proxy.answered.wait(), 20)
        first.process.send_signal(signal.SIGTERM)
        await _until_refused(first)
        assert not running.done()
        proxy.release()
        got = (await running).access_token
        assert 0 == await first.stop()
        assert [(True, False), (True, False), (False, False)] == _tokens(sandbox)
        assert ["stopping", "stopped"] == [event["event"] for event in first.events()][-2:]

        # The second goes on with what the first has kept, and is killed once it has sent its refresh token.
        second = await _start(stack, data, env)
        desk.world = await _again(stack, world, second)
        calls = (await sandbox.counters())["token_calls"]
        assert got == (await desk.get("read")).access_token
        assert calls == (await sandbox.counters())["token_calls"]
        assert (await desk.get("trade")).access_token
        assert [(True, False)] * 3 + [(False, False)] == _tokens(sandbox)
        actions = [event.action for event in await desk.world.events()]
        assert (1, 2) == (actions.count("broker:stop"), actions.count("broker:start"))
        proxy.hold()
        lost = asyncio.create_task(desk.refused("account:information"))
        await asyncio.wait_for(proxy.answered.wait(), 20)
        assert -signal.SIGKILL == await second.stop(signal.SIGKILL)
        assert grpc.StatusCode.UNAVAILABLE == (await lost).status
        proxy.release()
        if store == "postgres":  # where a killed owner's lease has to end by itself, which takes 15 s
            _end_leases(env["BROKER_DATABASE_URL"])

        # The third does not send it again.
        third = await _start(stack, data, env)
        desk.world = await _again(stack, world, third)
        calls = (await sandbox.counters())["token_calls"]
        assert "GRANT_UNCERTAIN" == (await desk.refused("account:information")).reason
        assert "GRANT_UNCERTAIN" == (await desk.refused("order:information")).reason
        assert got == (await desk.get("read")).access_token
        assert ("unknown", "ok") == await desk.state()
        assert calls == (await sandbox.counters())["token_calls"]
        assert [(True, False)] * 4 + [(False, False)] == _tokens(sandbox)
        assert 0 == await third.stop()
    for process in (first, second, third):
        world.seen.add("log", bytes(process.output))
    assert [] == world.seen.leaks()
    assert [] == search_files(data, CLIENT_ID).leaks


async def test_a_redeem_outlives_its_call(tmp_path: Path) -> None:
    """SIGTERM with no call left and a refresh token under way: the broker waits for the answer, and keeps it."""
    data = tmp_path / "data"
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox(sandbox_config()))
        proxy = await stack.enter_async_context(holding_proxy(sandbox.url))
        first = await _start(stack, data, {})
        world = await stack.enter_async_context(connected(first, sandbox, seen=Seen()))
        await world.apply(provider("aries", proxy.url))
        desk = await world.desk("refresh_token", scopes=["read"], imported=False)
        token = await sandbox.refresh_token(scopes=wire(["read"]))
        request = grants_pb2.ImportRefreshTokenRequest(grant=desk.grant, refresh_token=token)
        proxy.hold()
        redeem = asyncio.create_task(world.refusal(world.call(world.grants.ImportRefreshToken, request, deadline=1)))
        await asyncio.wait_for(proxy.answered.wait(), 20)
        assert grpc.StatusCode.DEADLINE_EXCEEDED == (await redeem).status
        first.process.send_signal(signal.SIGTERM)
        await _until_refused(first)
        await until_told(lambda: _is_closed(first.addresses["http_listen"]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first.process.wait(), 1)  # one that does not wait is gone by then
        proxy.release()
        assert 0 == await first.stop()
        second = await _start(stack, data, {})
        desk.world = await _again(stack, world, second)
        calls = (await sandbox.counters())["token_calls"]
        assert (await desk.get("read")).access_token
        assert ("idle", "ok") == await desk.state()
        assert calls == (await sandbox.counters())["token_calls"]
        assert 0 == await second.stop()


async def test_a_broker_whose_store_is_away_ends(tmp_path: Path) -> None:
    """SIGTERM while PostgreSQL is stopped: the broker says what it could not record, and ends with exit code 0."""
    with running_postgres() as server:
        env = await postgres_environment(server, tmp_path / "data")
        async with AsyncExitStack() as stack:
            process = await _start(stack, tmp_path / "data", env)
            server.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(server.process.wait, 20)
            assert 0 == await process.stop()
    assert ["stopping", "stopping_unrecorded", "stopped"] == [event["event"] for event in process.events()][-3:]


async def _start(stack: AsyncExitStack, data: Path, env: dict[str, str]) -> BrokerProcess:
    """Start a broker that does not outlive a failed test."""
    process = await start_broker(data, env=env)
    stack.callback(_kill, process)
    return process


async def _until_refused(process: BrokerProcess) -> None:
    """Return once the broker takes no further calls."""
    await until(lambda: "stopping" in [event["event"] for event in process.events()])
    await until_told(lambda: _is_closed(process.address))


async def _is_closed(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it waited to be taken when the listener closed: the next one is refused
        return False
    writer.close()
    return False


def _end_leases(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE grants SET lease_until = 0")


def _kill(process: BrokerProcess) -> None:
    if process.process.returncode is None:
        process.process.kill()
