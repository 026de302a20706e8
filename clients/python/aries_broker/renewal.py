"""Channels that are opened anew when the TLS files they were opened with have changed.

Certificates of workloads live for minutes or hours. A call uses the channel of the newest files that fit together, and
one that runs ends on the channel it began on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

import grpc

from aries_broker.connection import Connection
from aries_broker.errors import ConfigurationError

LOOK_SECONDS: Final = 1.0
"""How long the files are not looked at again, and only for a call."""

Stamp = tuple[tuple[int, ...] | None, ...]
"""Of each file what changes with it; None for one that is not there."""

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Held(Generic[T]):
    """What a call uses.

    Attributes:
        channel: the channel, with whatever goes with it.
        stamp: of the files it was opened with, from before they were read.
        calls: how many use it.
    """

    channel: T
    stamp: Stamp
    calls: int = 0


class Channels(Generic[T]):
    """The channels of one client; threads may share them, and none waits while another looks at the files."""

    def __init__(
        self,
        connection: Connection,
        open_channel: Callable[[grpc.ChannelCredentials | None], T],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the first channel.

        Args:
            connection: where to, and which files.
            open_channel: opens a channel with what the files hold.
            clock: seconds that only grow.

        Raises:
            ConfigurationError: a TLS file cannot be read.
        """
        self._connection = connection
        self._files = [path for path in (connection.ca, connection.cert, connection.cert_key) if path is not None]
        self._open = open_channel
        self._clock = clock
        self._looking = threading.Lock()
        self._look_at = clock() + LOOK_SECONDS
        self._lock = threading.Lock()
        self._closed = False
        self._retired: list[Held[T]] = []
        stamp = _stamp(self._files)
        self._current = Held(open_channel(connection.load_credentials()), stamp)

    def take(self) -> Held[T]:
        """Return the channel for one call, which is given back after it."""
        if self._files and self._clock() >= self._look_at and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        with self._lock:
            self._current.calls += 1
            return self._current

    def give_back(self, held: Held[T]) -> list[T]:
        """Return the channels to be closed now: those replaced, once no call uses them."""
        with self._lock:
            held.calls -= 1
            ended = [one.channel for one in self._retired if not one.calls]
            self._retired = [one for one in self._retired if one.calls]
        return ended

    def close(self) -> list[T]:
        """Return all channels, to be closed now; no other is opened any more."""
        with self._lock:
            self._closed = True
            ended = [self._current.channel, *(one.channel for one in self._retired)]
            self._retired = []
        return ended

    def _look(self) -> None:
        """Open a channel if the files changed and can be used; if not, they are looked at again a second later."""
        self._look_at = self._clock() + LOOK_SECONDS
        stamp = _stamp(self._files)
        if stamp == self._current.stamp:
            return
        with suppress(ConfigurationError):
            credentials = self._connection.load_credentials()
            if _stamp(self._files) != stamp:
                return
            with self._lock:
                if not self._closed:
                    self._retired.append(self._current)
                    self._current = Held(self._open(credentials), stamp)


def _stamp(files: Iterable[Path]) -> Stamp:
    found: list[tuple[int, ...] | None] = []
    for path in files:
        try:
            seen = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_dev, seen.st_ino))
    return tuple(found)
