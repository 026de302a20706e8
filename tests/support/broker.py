"""A real broker in a process of its own, as operators start it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.empty_database import put_empty_database
from tests.support.forked import ForkedProcess, start_forked

START_SECONDS = 45.0
STOP_SECONDS = 30.0


class NotServingError(RuntimeError):
    """A broker that was started does not serve.

    Attributes:
        exit_code: None if it had to be ended.
        said: what it printed.
    """

    def __init__(self, exit_code: int | None, said: str) -> None:
        super().__init__(f"the broker does not serve, exit code {exit_code}:\n{said}")
        self.exit_code = exit_code
        self.said = said


@dataclass(slots=True)
class BrokerProcess:
    """A started broker.

    Attributes:
        addresses: listener name (`listen`, `mtls_listen`, `http_listen`) → host:port it got.
        output: everything it printed so far, logs included.
        environment: the settings it was given beyond those of every test.
    """

    process: ForkedProcess
    data_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    output: bytearray = field(default_factory=bytearray)

    @property
    def address(self) -> str:
        """Where services call it."""
        return self.addresses["listen"]

    @property
    def http(self) -> str:
        """The base URL of its probes and metrics."""
        return f"http://{self.addresses['http_listen']}"

    @property
    def admin_key(self) -> str:
        """The admin key made at the first start."""
        return (self.data_dir / "admin.key").read_text().strip()

    def events(self) -> list[dict[str, Any]]:
        """Return the log's events so far."""
        lines = bytes(self.output).decode(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal_number)
        return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)

    async def kill(self) -> None:
        """End it as a power cut would, if it lives, and wait until it is gone."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def start_broker(
    data_dir: Path,
    *,
    config: Path | None = None,
    env: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    program: tuple[str, ...] = ("broker.cli", "serve"),
) -> BrokerProcess:
    """Start a broker on free ports and return once it says that it serves; `program` is the module to run.

    Raises:
        NotServingError: it ended, or did not serve in time.
    """
    if "BROKER_DATABASE_URL" not in (env or {}):
        await asyncio.to_thread(put_empty_database, data_dir)
    command = [*program, *arguments]
    if config is not None:
        command += ["--config", str(config)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    settings = {
        "BROKER_DATA_DIR": str(data_dir),
        "BROKER_LISTEN": "127.0.0.1:0",
        "BROKER_HTTP_LISTEN": "127.0.0.1:0",
        **(env or {}),
    }
    process = await start_forked(command, {**inherited, **settings})
    started = BrokerProcess(process, data_dir, dict(env or {}))
    serving = asyncio.Event()
    reader = asyncio.create_task(_read(started, serving))
    waits = [asyncio.create_task(serving.wait()), asyncio.create_task(process.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if waits[0] not in done:
            late = process.returncode is None
            if late:
                process.kill()
            await reader
            said = bytes(started.output).decode(errors="replace")
            raise NotServingError(None if late else await process.wait(), said)
    finally:
        for wait in waits:
            wait.cancel()
    return started


async def _read(started: BrokerProcess, serving: asyncio.Event) -> None:
    async for line in started.process.stdout:
        started.output += line
        if line.startswith(b"{") and b'"serving"' in line:
            event = json.loads(line)
            if event.get("event") == "serving":
                started.addresses = {name: value for name, value in event.items() if name.endswith("listen")}
                serving.set()


@asynccontextmanager
async def running_broker(
    data_dir: Path, *, config: Path | None = None, env: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()
) -> AsyncIterator[BrokerProcess]:
    """Run a broker for the length of the block; it must end by itself, with exit code 0."""
    started = await start_broker(data_dir, config=config, env=env, arguments=arguments)
    try:
        yield started
    finally:
        code = await started.stop()
    assert code == 0, bytes(started.output).decode(errors="replace")
