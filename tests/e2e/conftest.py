"""Brokers that many end-to-end tests share: one on SQLite, one on PostgreSQL, searched for canaries at the end."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.canary import search_files
from tests.support.postgres import PostgresServer
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.world import CLIENT_ID, World, postgres_environment, provider, running_world, sandbox_config


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def upstream() -> AsyncIterator[SandboxDriver]:
    """The sandbox all shared brokers talk to."""
    async with running_sandbox(sandbox_config()) as driver:
        yield driver


@pytest.fixture(scope="session")
def refusing_port() -> int:
    """A port of loopback that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


async def _apply(world: World, refusing_port: int) -> None:
    """Tell the broker of the sandbox in its several guises."""
    url = world.sandbox.url
    await world.apply(
        provider("aries", url),
        provider("unproved", url, narrowing="unproved"),
        provider("exacting", url, absent_scope="refuse"),
        provider("closed", f"http://127.0.0.1:{refusing_port}"),
        provider("not-tls", url.replace("http:", "https:")),
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqlite_world(
    upstream: SandboxDriver, refusing_port: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """A broker on SQLite; no canary is in anything it said, nor in the raw bytes of its files."""
    data = tmp_path_factory.mktemp("sqlite") / "data"
    async with running_world(upstream, data) as world:
        await _apply(world, refusing_port)
        yield world
    _assert_no_canary(world, data)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_world(
    upstream: SandboxDriver,
    refusing_port: int,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    """A broker on PostgreSQL; no canary is in anything it said, nor in the raw bytes of the server's files."""
    data = tmp_path_factory.mktemp("postgres") / "data"
    async with running_world(upstream, data, await postgres_environment(postgres, data)) as world:
        await _apply(world, refusing_port)
        yield world
    postgres.execute("CHECKPOINT")
    _assert_no_canary(world, postgres.folder / "data")


def _assert_no_canary(world: World, files: Path) -> None:
    found = search_files(files, CLIENT_ID)
    assert found.expected, "the search finds nothing at all"
    assert [] == [*found.leaks, *world.seen.leaks()]


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, fresh_upstream: SandboxDriver) -> World:
    """A broker that other tests use too, on each store, with a sandbox that behaves."""
    shared: World = request.getfixturevalue(f"{request.param}_world")
    return shared


@pytest.fixture
def on_sqlite(sqlite_world: World, fresh_upstream: SandboxDriver) -> World:
    """The broker on SQLite, where the store makes no difference, with a sandbox that behaves."""
    return sqlite_world


@pytest_asyncio.fixture(loop_scope="session")
async def fresh_upstream(upstream: SandboxDriver) -> SandboxDriver:
    """The shared sandbox as it was at its start: it forgets what the tests before did, and behaves."""
    await upstream.reset()
    return upstream
