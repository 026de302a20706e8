"""What takes too long altogether ends, whatever it waits for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from aries_exchange.errors import AriesConnectionError
from aries_exchange.timing import Timing
from aries_exchange.transport import Request, Transport
from broker.cli.terminal_login import TimedSender
from broker.cli.time_limit import time_limit
from tests.support.raw_server import Connection, raw_server
from tests.support.threaded import LoopThread

SECONDS = 0.2


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    """The loop that servers run in."""
    thread = LoopThread()
    yield thread
    thread.stop()


def test_a_wait_ends_with_its_time() -> None:
    """By TimeoutError, in the block."""
    with pytest.raises(TimeoutError), time_limit(SECONDS):
        threading.Event().wait(120)


def test_nothing_is_left_of_a_limit() -> None:
    """Who had the signal and the timer before has them again."""
    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with time_limit(SECONDS):
        pass
    after = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    assert (before[0], before[1][1], True) == (after[0], after[1][1], abs(before[1][0] - after[1][0]) < 1)


def test_a_provider_that_never_ends_its_answer_is_not_waited_for(loop: LoopThread) -> None:
    """Each byte of it comes in time."""

    async def drip(connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not await connection.gone_within(0.02):
            await connection.send(b"x")

    transport = Transport(Timing())
    with loop.entered(raw_server(drip)) as server:
        with pytest.raises(AriesConnectionError):
            TimedSender(transport, SECONDS).send(Request("POST", f"http://127.0.0.1:{server.port}/", {}))
        transport.close()
