"""The lives of one broker: processes one after the other on the same data, each of which may be told where to end."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from aries_broker.errors import ConflictError, UnavailableError
from broker.adapters.data_folder import DataFolder
from broker.adapters.journal import open_journal
from broker.sandbox.behaviour import Behaviour, RotationMode
from tests.crash.faults import write_plan
from tests.crash.stories import MODES, WINDOWED
from tests.support.broker import BrokerProcess, NotServingError, start_broker
from tests.support.canary import Seen
from tests.support.postgres import PostgresServer
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.waiting import until_told
from tests.support.world import World, connected, postgres_environment, provider, sandbox_config

PROGRAM: Final = ("tests.crash.broker_with_faults",)
WINDOW: Final = 120
"""Seconds in which a provider that has such a window takes a spent token again: the successors of several deaths must
start within it, on a busy machine."""

PATIENCE: Final = 45.0
AGAIN: Final = 0.1
"""Seconds: how long anything may take, and between two tries."""

T = TypeVar("T")


@dataclass
class Lives:
    """A broker, and one sandbox for each mode.

    Attributes:
        data: its data folders, of which a process has one.
        worlds: the process that lives, as the test of each mode sees it.
    """

    data: tuple[Path, ...]
    env: Mapping[str, str]
    plan: Path
    sandboxes: Mapping[RotationMode, SandboxDriver]
    worlds: dict[RotationMode, World] = field(default_factory=dict)
    admin_key: str = ""
    _life: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def world(self) -> World:
        """The process of now, as its operators see it."""
        return next(iter(self.worlds.values()))

    @property
    def process(self) -> BrokerProcess:
        """The process of now."""
        return self.world.process

    def die_at(self, point: str, arrivals: int) -> None:
        """Tell the process of now, or the next, where to end, once so many have come there."""
        write_plan(self.plan, point, arrivals)

    async def start(self, volume: int = 0) -> None:
        """Begin the next life."""
        env = {**self.env, "CRASH_PLAN": str(self.plan)}
        process = await start_broker(self.data[volume], env=env, program=PROGRAM)
        self._life.push_async_callback(process.kill)
        self.admin_key = self.admin_key or process.admin_key
        sandbox = next(iter(self.sandboxes.values()))
        connection = connected(process, sandbox, seen=Seen(), admin_key=self.admin_key)
        world = await self._life.enter_async_context(connection)
        if self.worlds:
            world = replace(world, _numbers=self.world._numbers)
        self.worlds = {mode: replace(world, sandbox=sandbox) for mode, sandbox in self.sandboxes.items()}

    async def start_and_die(self, volume: int) -> None:
        """Begin a life that ends before it serves."""
        try:
            await self.start(volume)
        except NotServingError as error:
            if error.exit_code == -signal.SIGKILL:
                return
            raise
        message = "the broker serves, and did not come to its end"
        raise AssertionError(message)

    async def died(self) -> None:
        """Return once the process of now has ended; it was killed, by itself or by the test."""
        code = await self.process.process.wait()
        await self.end()
        if code != -signal.SIGKILL:
            said = bytes(self.process.output).decode(errors="replace")
            message = f"the broker ended with {code}:\n{said}"
            raise AssertionError(message)

    async def end(self) -> None:
        """End the process of now, if it lives, and all that talks to it."""
        await self._life.aclose()

    def journal_is_empty(self, volume: int = 0) -> bool:
        """Tell whether a dead process left nothing in its journal."""
        folder = DataFolder(self.data[volume])
        journal = open_journal(folder)
        try:
            return not journal.held
        finally:
            journal.close()
            folder.close()

    async def configure(self) -> None:
        """Tell the broker of every sandbox what an operator would know of it, and prove how it narrows."""
        providers = [
            provider(mode, sandbox.url, **({"replay_window": WINDOW} if mode in WINDOWED else {}))
            for mode, sandbox in self.sandboxes.items()
        ]
        await self.world.apply(*providers)
        for mode in self.sandboxes:
            await persist(partial(self.worlds[mode].prove_narrowing, mode))


@asynccontextmanager
async def lives(
    folder: Path, postgres: PostgresServer | None = None, modes: tuple[RotationMode, ...] = MODES
) -> AsyncIterator[Lives]:
    """Begin the first life of a broker on SQLite, or on a database of its own on PostgreSQL."""
    config = sandbox_config()  # one client for all
    async with AsyncExitStack() as stack:
        sandboxes = {
            mode: await stack.enter_async_context(
                running_sandbox(config, behaviour=Behaviour(rotation=mode, grace_seconds=WINDOW))
            )
            for mode in modes
        }
        data = (folder / "data", folder / "other")
        env = {} if postgres is None else await postgres_environment(postgres, data[0])
        every = Lives(data, env, folder / "plan", sandboxes)
        stack.push_async_callback(every.end)
        await every.start()
        await every.configure()
        yield every


async def persist(work: Callable[[], Awaitable[T]]) -> T:
    """Return what comes of some work, again and again where the machine is too busy for such a short lease."""
    found: list[T] = []

    async def tried() -> bool:
        with suppress(UnavailableError, ConflictError):
            found.append(await work())
        return bool(found)

    await until_told(tried, AGAIN, PATIENCE)
    return found[0]
