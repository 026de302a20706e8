"""The bytes of one reply in lines and pieces: what a peer sends costs a bounded time, and never all of it at once."""

from __future__ import annotations

import asyncio
from typing import Final

MAX_LINE: Final = 16 * 1024
"""Bytes of one line; twice as many wait unread in memory before the peer has to."""

BUDGET: Final = 1024 * 1024
"""Bytes of one reply with everything around its body, each line and piece counted as `LEAST` or more."""

LEAST: Final = 64
"""What a line or piece costs, in bytes, however short: replies that are cut up small take their time by the cut."""

TURN: Final = 16 * 1024
"""What is read, counted like this, before the event loop gets its turn: about a millisecond's work."""


def cost_of(taken: bytes) -> int:
    """Return what a line or piece costs."""
    return max(len(taken), LEAST)


class BrokenReplyError(Exception):
    """No whole reply came; `cause` is in the words of ReplyLostError."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class BoundedReader:
    """Reads one reply from a stream whose own limit is `MAX_LINE`."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._left = BUDGET
        self._since_turn = 0

    async def line(self) -> bytes:
        """Return the next line, its LF included.

        Raises:
            BrokenReplyError: it does not end (`reset`), is too long (`malformed`), or the reply costs too much.
            OSError: the connection broke.
        """
        await self._take_turn()
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            raise BrokenReplyError("reset") from None
        except asyncio.LimitOverrunError:
            raise BrokenReplyError("malformed") from None
        self._count(line)
        return line

    async def piece(self, most: int) -> bytes:
        """Return what is there of the next `most` bytes, one at least; none at the end of the stream.

        Raises:
            BrokenReplyError: the reply costs too much (`too_large`).
            OSError: the connection broke.
        """
        await self._take_turn()
        piece = await self._reader.read(min(most, TURN))
        self._count(piece)
        return piece

    def _count(self, taken: bytes) -> None:
        cost = cost_of(taken)
        self._left -= cost
        self._since_turn += cost

    async def _take_turn(self) -> None:
        """Before anything is taken, so that what was taken is not lost with a deadline that passes meanwhile.

        A stream with bytes in its buffer answers without waiting: only this lets others run.
        """
        if self._left < 0:
            raise BrokenReplyError("too_large")
        if self._since_turn >= TURN:
            self._since_turn = 0
            await asyncio.sleep(0)
