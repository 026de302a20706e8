"""Programs started by forking a process that has the broker's modules loaded.

A start spends three quarters of its time on imports, and tests start a hundred brokers. What runs is what
`python -m PROGRAM` runs, in a process of its own with an environment, output, signals and an exit code of its own; the
README's commands and the demo are started without this.

    test process ──(request, two descriptors)──► loaded process ──fork──► keeper ──fork──► program
         ◄───────────── program's id, then its exit code, through the second descriptor ◄──┘
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import functools
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import termios
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

MOST = 256 * 1024
"""Longest request, in bytes: an environment and arguments."""
LAST_WORDS = 5.0
"""Seconds that output is read after a program's end."""


class ForkedProcess:
    """What `asyncio.subprocess.Process` is for programs started the long way; made by `start_forked`.

    Attributes:
        pid: the program's process id.
        returncode: its exit code, negative for a signal; None while it runs.
        stdout: what it prints, errors too.
    """

    def __init__(self, pid: int, stdout: _Pipe, status: _Pipe) -> None:
        """Follow a program whose exit code comes by `status`."""
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout.reader
        self._ended = asyncio.create_task(self._follow(stdout, status))

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return await asyncio.shield(self._ended)

    async def _follow(self, stdout: _Pipe, status: _Pipe) -> int:
        code = int(await status.reader.readline())
        self.returncode = code
        await status.closed.wait()
        with contextlib.suppress(TimeoutError):  # what it started may print on
            await asyncio.wait_for(stdout.closed.wait(), LAST_WORDS)
        stdout.transport.close()
        await stdout.closed.wait()
        return code


@dataclass(frozen=True, slots=True)
class _Pipe:
    """What is read of a pipe; `closed` once nothing more comes and its descriptor is closed."""

    reader: asyncio.StreamReader
    transport: asyncio.ReadTransport
    closed: asyncio.Event


class _Protocol(asyncio.StreamReaderProtocol):
    """Tells when the pipe is closed."""

    def __init__(self, reader: asyncio.StreamReader, closed: asyncio.Event) -> None:
        super().__init__(reader)
        self._closed_event = closed

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._closed_event.set()


async def start_forked(program: Sequence[str], env: Mapping[str, str], *, terminal: int | None = None) -> ForkedProcess:
    """Start `python -m` of a program's words, with an environment, on a loop that outlives it.

    Given a terminal's descriptor it reads and writes there, and Ctrl-C typed there is its own.
    """
    stdout, its_stdout = await _pipe()
    status, its_status = await _pipe()
    try:
        request = json.dumps({"program": list(program), "env": dict(env), "folder": os.getcwd()}).encode()  # noqa: PTH109
        descriptors = array.array("i", [its_stdout, its_status, *([] if terminal is None else [terminal])])
        _loaded()[0].sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    finally:
        os.close(its_stdout)
        os.close(its_status)
    return ForkedProcess(int(await status.reader.readline()), stdout, status)


async def _pipe() -> tuple[_Pipe, int]:
    """Return what is read of a pipe, and the descriptor to be written to."""
    readable, writable = os.pipe()
    reader, closed = asyncio.StreamReader(), asyncio.Event()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: _Protocol(reader, closed), os.fdopen(readable, "rb", 0)
    )
    return _Pipe(reader, transport, closed), writable


@functools.cache
def _loaded() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the loaded process, once in this one; return the socket it takes requests from, and it. It ends with us."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.support.forked", str(its.fileno())]
    process = subprocess.Popen(command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603 - ours
    its.close()
    return ours, process


# --- the loaded process ----------------------------------------------------------------------------------------------


def _serve(requests: socket.socket) -> NoReturn:
    """Load what brokers need, then fork for each request until the test process is gone."""
    import broker.cli.app  # noqa: PLC0415 - what is loaded once for all
    import broker.cli.terminal_login  # noqa: PLC0415 - the same
    import broker.main  # noqa: F401, PLC0415 - the same

    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are nobody's to wait for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the test run's
    while True:
        request, ancillary, _, _ = requests.recvmsg(MOST, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        if not request:
            os._exit(0)
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        if os.fork() == 0:
            requests.close()
            _keep(json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(request: dict[str, object], stdout: int, status: int, terminal: int | None = None) -> NoReturn:
    """Start the program, tell its id, wait for it, tell its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if terminal is not None:
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        _become(request, stdout, terminal)
    os.close(stdout)
    if terminal is not None:
        os.close(terminal)  # it hangs up with the program
    os.write(status, f"{pid}\n".encode())
    _, ended = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def _become(request: dict[str, object], stdout: int, terminal: int | None) -> NoReturn:
    """Run the program as `python -m` does, and end with its exit code."""
    program, env, folder = request["program"], request["env"], request["folder"]
    if not (isinstance(program, list) and isinstance(env, dict) and isinstance(folder, str)):
        os._exit(70)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, stdout, stdout) if terminal is None else (terminal,) * 3):
        os.dup2(descriptor, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[:] = program
    code = 0
    try:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 - told as the interpreter does
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
