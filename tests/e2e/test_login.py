"""A person logs in for a grant, through the broker's pages, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from tests.support.canary import Seen, search_files
from tests.support.person import Person, asked, person
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.world import CLIENT_ID, World, running_world, sandbox_config, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONNECTED = authorization_pb2.AUTHORIZATION_STATE_CONNECTED
FAILED = authorization_pb2.AUTHORIZATION_STATE_FAILED


def free_port() -> int:
    """Return a port nobody has just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxDriver]:
    """Where people log in."""
    async with running_sandbox(sandbox_config()) as driver:
        yield driver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(sandbox: SandboxDriver, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A broker with pages; no canary is in anything it said, nor in the raw bytes of its files."""
    data, port, seen = tmp_path_factory.mktemp("login") / "data", free_port(), Seen()
    pages = {"BROKER_PUBLIC_LISTEN": f"127.0.0.1:{port}", "BROKER_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    async with running_world(sandbox, data, pages, seen) as running:
        yield running
    found = search_files(data, CLIENT_ID)
    assert found.expected, "the search finds nothing at all"
    assert [] == [*found.leaks, *seen.leaks()]


@pytest_asyncio.fixture(loop_scope="module")
async def ada(world: World, sandbox: SandboxDriver) -> AsyncIterator[Person]:
    """A person with an account at the sandbox, and a browser of her own."""
    await sandbox.reset()
    async with person(sandbox, seen=world.seen) as somebody:
        yield somebody


def logins(world: World) -> authorization_pb2_grpc.AuthorizationServiceAsyncStub:
    """Return the service."""
    return authorization_pb2_grpc.AuthorizationServiceStub(world.channel)


async def started(
    world: World, grant: str, key: str = "", **fields: object
) -> authorization_pb2.StartAuthorizationResponse:
    """Start a login for a grant."""
    request = authorization_pb2.StartAuthorizationRequest(grant=grant, **fields)  # type: ignore[arg-type]  # its fields
    metadata = (("authorization", f"Bearer {key or world.admin_key}"),)
    reply: authorization_pb2.StartAuthorizationResponse = await logins(world).StartAuthorization(
        request, metadata=metadata, timeout=20
    )
    return reply


async def now(world: World, flow_id: str) -> authorization_pb2.Authorization:
    """Return how a login stands."""
    request = authorization_pb2.GetAuthorizationRequest(flow_id=flow_id)
    reply = await world.call(logins(world).GetAuthorization, request)
    told: authorization_pb2.Authorization = reply.authorization
    return told


async def test_a_person_logs_in_and_a_service_gets_a_token(world: World, ada: Person) -> None:
    """From the link to "connected", and then GetToken; the starter is told who it was and what was granted."""
    desk = await world.desk("refresh_token", imported=False)
    login = await started(world, desk.grant)
    back = await ada.log_in(login.authorization_url, login.short_code)
    assert 303 == back.status_code
    page = await ada.get(back.headers["location"])
    assert "Connected" in page.text
    told = await now(world, login.flow_id)
    assert (CONNECTED, "1001", sorted(wire(["read", "trade"]))) == (
        told.state,
        told.subject,
        list(told.provider_scopes),
    )
    token = await desk.get("read", "trade")
    assert sorted(wire(["read", "trade"])) == sorted(token.provider_scopes)
    assert asked((await ada.confirm(login.authorization_url, login.short_code)).headers.get("location", "")) == {}
