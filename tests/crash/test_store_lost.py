"""The store is lost between the provider's reply and the commit, and then the process: the journal has the token."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from tests.crash.faults import write_plan
from tests.crash.lives import PROGRAM
from tests.support.broker import start_broker
from tests.support.canary import Seen
from tests.support.holding_proxy import holding_proxy
from tests.support.not_run import not_run
from tests.support.postgres import running_postgres
from tests.support.sandbox import running_sandbox
from tests.support.waiting import until_told
from tests.support.world import connected, postgres_environment, provider, sandbox_config

pytestmark = pytest.mark.crash

ROOM = "48m"
"""Of the file system that becomes full: the journal takes 32 MiB of it from the start."""


async def test_a_database_stopped_before_the_commit(tmp_path: Path) -> None:
    """PostgreSQL is stopped at once, the broker killed, both are started again: the grant works."""
    with running_postgres() as server:
        env = await postgres_environment(server, tmp_path / "data")
        await _lose(tmp_path, tmp_path / "data", env, server.stop_at_once, server.start_again)


async def test_a_disk_full_before_the_commit(tmp_path: Path) -> None:
    """SQLite's disk has no byte left, the broker is killed, room is made: the grant works."""
    with _small_disk(tmp_path / "disk") as disk:
        filler = disk / "filler"
        await _lose(tmp_path, disk / "data", {}, lambda: _fill(filler), filler.unlink)


async def _lose(
    folder: Path, data: Path, env: dict[str, str], lose: Callable[[], None], restore: Callable[[], None]
) -> None:
    env = {**env, "CRASH_PLAN": str(folder / "plan")}
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox(sandbox_config()))
        proxy = await stack.enter_async_context(holding_proxy(sandbox.url))
        first = await start_broker(data, env=env, program=PROGRAM)
        stack.push_async_callback(first.kill)
        world = await stack.enter_async_context(connected(first, sandbox, seen=Seen()))
        await world.apply(provider("aries", proxy.url))
        await world.prove_narrowing()
        desk = await world.desk("refresh_token", scopes=["read"])
        proxy.hold()
        write_plan(folder / "plan", "journal, after", 1)
        lost = asyncio.create_task(world.outcome(desk.get("account:information")))
        await asyncio.wait_for(proxy.answered.wait(), 20)
        await asyncio.to_thread(lose)
        proxy.release()
        assert -signal.SIGKILL == await asyncio.wait_for(first.process.wait(), 30)
        await lost
        await asyncio.to_thread(restore)
        write_plan(folder / "plan", "", 0)

        second = await start_broker(data, env=env, program=PROGRAM)
        stack.push_async_callback(second.kill)
        desk.world = await stack.enter_async_context(connected(second, sandbox, seen=Seen(), admin_key=world.admin_key))
        for scope in ("account:information", "order:information"):

            async def served(scope: str = scope) -> bool:
                return await desk.world.outcome(desk.get(scope)) is None

            await until_told(served)
        counters = await sandbox.counters()
        assert (0, 0) == (counters["reuses"], counters["families_ended"])
        assert ("idle", "ok") == await desk.state()


@contextmanager
def _small_disk(place: Path) -> Iterator[Path]:
    """Mount a file system with little room, which takes root."""
    place.mkdir()
    mounted = subprocess.run(  # noqa: S603 - a command of ours
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", place],  # noqa: S607 - wherever it is
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        not_run(f"a full disk needs a file system of its own: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)  # noqa: S603, S607 - a command of ours, wherever it is


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
