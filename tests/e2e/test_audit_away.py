"""The audit store is away: no token leaves, the cause is named within a second or so, and it comes back by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from aries.broker.v1 import token_pb2
from tests.support.postgres import PostgresServer
from tests.support.waiting import until_told
from tests.support.world import Desk, World

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Holds the file's lock, in a process of its own, until its standard input ends.
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def _audit_away(world: World, postgres: PostgresServer) -> Iterator[None]:
    """Take the audit table away for the length of the block."""
    if "BROKER_DATABASE_URL" not in world.process.environment:
        file = world.process.data_dir / "audit.db"
        with subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-ISc", LOCKER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as locker:
            assert locker.stdout is not None
            assert b"locked\n" == locker.stdout.readline()
            yield
            locker.communicate()
        return
    database = world.process.environment["BROKER_DATABASE_URL"].split("/")[3].split("?")[0]
    rows = postgres.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'aries-broker audit' "  # noqa: S608 - a name of ours
        f"AND datname = '{database}'"
    )
    for (backend,) in rows:
        os.kill(int(str(backend)), signal.SIGSTOP)
    try:
        yield
    finally:
        for (backend,) in rows:
            os.kill(int(str(backend)), signal.SIGCONT)


async def test_no_token_without_its_event(world: World, postgres: PostgresServer) -> None:
    """AUDIT_UNAVAILABLE, for a cached token and for a new one, soon; once the store is back, tokens are too."""
    desk = await world.desk()
    await desk.get("read")
    with _audit_away(world, postgres):
        started = time.monotonic()
        told = await asyncio.gather(desk.refused("read"), desk.refused("trade"))
        assert time.monotonic() - started < 10  # a second by the broker's clock; this machine may be busy
        assert [(grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE")] * 2 == [(e.status, e.reason) for e in told]
    assert (await _once_back(desk)).access_token
    events = await desk.events()
    assert ("token:deny", "AUDIT_UNAVAILABLE") in events
    assert ("token:issue", "") == events[-1]


async def test_probes_do_not_depend_on_it(world: World, postgres: PostgresServer) -> None:
    """Liveness and readiness stand while the audit store is away."""
    with _audit_away(world, postgres):
        for probe in ("livez", "readyz"):
            assert 200 == await world.probe(probe)


async def _once_back(desk: Desk) -> token_pb2.GetTokenResponse:
    async def back() -> bool:
        error = await desk.world.outcome(desk.get("read"))
        assert error is None or "AUDIT_UNAVAILABLE" == error.reason
        return error is None

    await until_told(back)
    return await desk.get("read")
