"""Watches of health: how many there may be, and what they cost. That they follow is tested with the servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.rpc.health import MAX_NAME, Health
from tests.support.waiting import until_told

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Peer:
    """One who asks for health, over a connection of its own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = health_pb2_grpc.HealthStub(channel)  # the stubs package leaves its methods out
        self.watches: list[Any] = []

    async def check(self) -> object:
        """Return the whole's status."""
        return (await self._stub.Check(health_pb2.HealthCheckRequest())).status

    async def watch(self, service: str = "") -> object:
        """Return the first status that a new watch is told, or the code of its refusal."""
        watch = self._stub.Watch(health_pb2.HealthCheckRequest(service=service))
        try:
            first = await watch.read()
        except grpc.aio.AioRpcError as error:
            return error.code()
        self.watches.append(watch)
        return first.status


@dataclass
class Served:
    """A server of health with two addresses, and how to connect to each."""

    network: str
    unix: str

    @asynccontextmanager
    async def peer(self, target: str) -> AsyncIterator[Peer]:
        """Yield a peer."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            yield Peer(channel)


@asynccontextmanager
async def served(health: Health, folder: Path) -> AsyncIterator[Served]:
    """Serve it."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port, unix = server.add_insecure_port("127.0.0.1:0"), f"unix:{folder}/socket"
    server.add_insecure_port(unix)
    await server.start()
    try:
        yield Served(f"127.0.0.1:{port}", unix)
    finally:
        health.end_watches()
        await server.stop(0)


async def test_watches_of_one_address_leave_room_for_others(tmp_path: Path) -> None:
    """One in excess is refused over whichever connection; checks are answered, and other addresses watch."""
    async with (
        served(Health(most=4, most_of_peer=2), tmp_path) as at,
        at.peer(at.network) as busy,
        at.peer(at.network) as twin,
        at.peer(at.unix) as other,
    ):
        assert [SERVING, SERVING, REFUSED] == [await busy.watch(), await twin.watch(), await busy.watch()]
        assert [SERVING, SERVING] == [await twin.check(), await other.watch()]


async def test_watches_of_all_addresses_are_bounded(tmp_path: Path) -> None:
    """Together they have no more than all places, and checks are answered still."""
    async with (
        served(Health(most=2, most_of_peer=2), tmp_path) as at,
        at.peer(at.network) as one,
        at.peer(at.unix) as other,
    ):
        assert [SERVING, SERVING, REFUSED] == [await one.watch(), await other.watch(), await other.watch()]
        assert SERVING == await other.check()


@pytest.mark.parametrize("most_of_peer", [1, 9], ids=["of-peer", "of-all"])
async def test_a_watch_that_ended_gives_its_place_back(tmp_path: Path, most_of_peer: int) -> None:
    """Whoever left is not counted."""
    async with served(Health(most=1, most_of_peer=most_of_peer), tmp_path) as at, at.peer(at.network) as peer:

        async def gets_a_place() -> bool:
            return await peer.watch() == SERVING

        for _ in range(3):
            await until_told(gets_a_place)
            assert REFUSED == await peer.watch()
            peer.watches.pop().cancel()


async def test_what_nobody_serves_may_be_watched_by_a_short_name(tmp_path: Path) -> None:
    """As the protocol wants it; names longer than any are not kept."""
    async with served(Health(), tmp_path) as at, at.peer(at.network) as peer:
        assert UNKNOWN == await peer.watch("x" * MAX_NAME)
        assert grpc.StatusCode.INVALID_ARGUMENT == await peer.watch("x" * (MAX_NAME + 1))


class Waking(Health):
    """Notes every status that wakes its watches."""

    def __init__(self) -> None:
        super().__init__()
        self.woken: list[tuple[str, int]] = []

    async def _set(self, service: str, status: int) -> None:
        self.woken.append((service, status))
        await super()._set(service, status)  # type: ignore[misc]  # the stubs leave it out


async def test_a_status_that_did_not_change_wakes_nobody() -> None:
    """However often it is set; the first one and each other one do."""
    health = Waking()
    for status in (SERVING, SERVING, NOT_SERVING, NOT_SERVING, SERVING):
        await health.set("", status)
        await health.set("a.Service", status)
    expected = [("", status) for status in (SERVING, NOT_SERVING, SERVING)]
    assert expected == [one for one in health.woken if one[0] == ""]
    assert 2 * len(expected) == len(health.woken)
