"""A command of ours at a terminal of its own, as a person sees it."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tests.support.forked import ForkedProcess, start_forked
from tests.support.waiting import ENOUGH, until

CTRL_C, CTRL_D = "\x03", "\x04"


class _Screen(asyncio.Protocol):
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.shown = bytearray()
        self.gone = False

    def data_received(self, data: bytes) -> None:
        self.shown += data

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # nobody has the terminal any more
        self.gone = True


class Terminal:
    """A running command, and the person's keys.

    Attributes:
        process: the command.
    """

    def __init__(self, process: ForkedProcess, screen: _Screen, leader: int, transport: asyncio.ReadTransport) -> None:
        """Follow it by the terminal's other end."""
        self.process = process
        self._screen = screen
        self._leader = leader
        self._transport = transport
        self._expected = 0

    @property
    def shown(self) -> str:
        """All that it showed."""
        return self._screen.shown.decode(errors="replace")

    async def expect(self, text: str) -> None:
        """Return once a text is shown after the one expected last."""
        await until(lambda: self._screen.gone or text in self.shown[self._expected :])
        assert text in self.shown[self._expected :], self.shown
        self._expected = self.shown.index(text, self._expected) + len(text)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._leader, keys.encode())

    async def close(self) -> None:
        """Close the terminal's window: the command hears SIGHUP, and has nowhere to read or write any more."""
        self._transport.close()
        await until(lambda: self._screen.gone)

    async def end(self) -> int:
        """Return the command's exit code, and have all that it showed."""
        code = await asyncio.wait_for(self.process.wait(), ENOUGH)
        await until(lambda: self._screen.gone)
        return code


@asynccontextmanager
async def terminal(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Terminal]:
    """Run a command at a terminal for the length of the block; no browser is opened unless `env` says so."""
    leader, follower = pty.openpty()
    try:
        process = await start_forked(
            ["broker.cli", *arguments], {**os.environ, "BROWSER": "true", **(env or {})}, terminal=follower
        )
    finally:
        os.close(follower)
    transport, screen = await asyncio.get_running_loop().connect_read_pipe(_Screen, os.fdopen(leader, "rb", 0))
    try:
        yield Terminal(process, screen, leader, transport)
    finally:
        process.kill()
        await process.wait()
        transport.close()
        await until(lambda: screen.gone)
