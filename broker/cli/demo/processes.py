"""The processes of the demo: servers that are ended with it, and commands that are waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from broker.cli.demo.interrupts import Interrupts
from broker.cli.errors import CommandError

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
COMMAND_SECONDS: Final = 30.0
PROGRAM: Final = (sys.executable, "-m", "broker.cli")


@dataclass
class Server:
    """A server that runs, and the file with everything it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    def read_log(self) -> str:
        """Return what it printed so far."""
        return self.log.read_text(errors="replace")


@dataclass
class Processes:
    """Starts `aries-broker` commands in `folder`, with nothing of this shell's BROKER_ variables.

    Attributes:
        folder: the demo's temporary folder.
        interrupts: held while a process is started or all are ended.
        replies: everything commands printed, for the search at the end.
    """

    folder: Path
    interrupts: Interrupts
    replies: list[bytes] = field(default_factory=list)
    _servers: list[Server] = field(default_factory=list)

    def serve(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Server:
        """Start a server; its output goes to `name`.log."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output, self.interrupts.held():
            process = subprocess.Popen(  # noqa: S603 - our own program
                [*PROGRAM, *arguments],
                cwd=self.folder,
                env=_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends its servers in order
            )
            server = Server(process, log)
            self._servers.append(server)
        return server

    def call(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and remember what it printed."""
        process: subprocess.Popen[str] | None = None
        try:
            with self.interrupts.held():
                process = subprocess.Popen(  # noqa: S603 - our own program
                    [*PROGRAM, *arguments],
                    cwd=self.folder,
                    env=_environment(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            out, err = process.communicate(timeout=COMMAND_SECONDS)
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.communicate()
        self.replies.append(f"{out}{err}".encode())
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def wait_for(self, server: Server, what: str, found: Callable[[], str | None]) -> str:
        """Return what `found` finds, once it does.

        Raises:
            CommandError: the server ended or took too long; with the end of its log.
        """
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and server.process.poll() is None:
            answer = found()
            if answer is not None:
                return answer
            time.sleep(0.05)
        last = "\n".join(server.read_log().splitlines()[-8:])
        message = f"the {what} did not start:\n{last}"
        raise CommandError(message)

    def stop(self, server: Server) -> int:
        """End a server as an operator would and return its exit code; one that does not end is killed."""
        server.process.terminate()
        try:
            return server.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.process.kill()
            return server.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self.interrupts.held():
            for server in reversed(self._servers):
                if server.process.poll() is None:
                    self.stop(server)


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("BROKER_")}
    return {**kept, **(more or {})}
