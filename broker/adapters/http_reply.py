"""Reading one HTTP/1.1 reply (RFC 9112): strictly, and in time that grows with its bytes alone.

No library does: the expressions of h11, which all of ours stand on, take the square of a line's blanks, so that 90 KiB
of them stop the process for a minute. What is needed is little: one reply on a connection that ends with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from broker.adapters.bounded_reader import BoundedReader, BrokenReplyError, cost_of
from broker.core.oauth.rfc6749 import HttpReply

MAX_REPLY: Final = 256 * 1024
"""Bytes of a reply's body."""

MAX_HEAD: Final = 64 * 1024
"""What a reply's head may cost with all interim ones before it, and what its trailers may: at most 1024 lines."""

Fields = Sequence[tuple[str, bytes]]
"""Lower-case name and value of each field, in the reply's order."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: [^\x00\v\f\r]*)?")
_NAME: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_FORBIDDEN: Final = re.compile(rb"[\x00\v\f\r]")
_LENGTH: Final = re.compile(rb"[0-9]{1,20}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,20})(?:;[^\n]*|[ \t]*)\r\n")
_BLANKS: Final = b" \t"
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(slots=True)
class Arriving:
    """A reply as far as it came.

    Attributes:
        head: status and headers with an empty body, once all of it was there.
        body: what came of the body, its chunks joined.
    """

    head: HttpReply | None = None
    body: bytearray = field(default_factory=bytearray)

    def reply(self) -> HttpReply | None:
        """Return what came, or None while there is no whole head."""
        return self.head and HttpReply(self.head.status, self.head.headers, bytes(self.body))


async def read_reply(reader: BoundedReader, arriving: Arriving) -> HttpReply:
    """Return the reply to anything but HEAD and CONNECT, read to its end and not beyond; `arriving` keeps up with it.

    Raises:
        BrokenReplyError: it breaks off (`reset`), is no HTTP/1.1 (`malformed`) or passes a bound (`too_large`).
        OSError: the connection broke.
    """
    status, fields = await _read_head(reader)
    headers: dict[str, str] = {}
    for name, value in fields:
        headers.setdefault(name, value.decode("latin-1"))
    length, chunked = _length(fields), _chunked(fields)
    arriving.head = HttpReply(status, headers, b"")
    if status in _WITHOUT_BODY:
        return arriving.head
    if chunked:
        await _read_chunks(reader, arriving.body)
    elif length is not None:
        await _read_exactly(reader, length, arriving.body)
    else:
        while piece := await reader.piece(MAX_REPLY):
            _add(arriving.body, piece)
    return HttpReply(status, headers, bytes(arriving.body))


async def _read_head(reader: BoundedReader) -> tuple[int, Fields]:
    """Return the final status and its fields; interim replies (RFC 9110 §15.2) before it are passed over."""
    left = MAX_HEAD
    while True:
        lines, left = await _read_lines(reader, left)
        line = _STATUS_LINE.fullmatch(lines[0]) if lines else None
        if line is None:
            raise BrokenReplyError("malformed")
        fields = [_parse_field(field) for field in _unfold(lines[1:])]
        status = int(line[1])
        if status == HTTPStatus.SWITCHING_PROTOCOLS:  # nobody asked for it
            raise BrokenReplyError("malformed")
        if status >= HTTPStatus.OK:
            return status, fields


async def _read_lines(reader: BoundedReader, most: int) -> tuple[Sequence[bytes], int]:
    """Return the lines up to an empty one, without their ends, and what of `most` is left."""
    lines = []
    while line := (await reader.line()).removesuffix(b"\n").removesuffix(b"\r"):
        most -= cost_of(line)
        if most < 0:
            raise BrokenReplyError("malformed")
        lines.append(line)
    return lines, most


def _unfold(lines: Iterable[bytes]) -> Sequence[bytearray]:
    """Return the fields' lines with those that continue another joined to it (RFC 9112 §5.2)."""
    unfolded: list[bytearray] = []
    for line in lines:
        if not line.startswith((b" ", b"\t")):
            unfolded.append(bytearray(line))
        elif unfolded:
            unfolded[-1] += b" " + line.lstrip(_BLANKS)
        else:
            raise BrokenReplyError("malformed")
    return unfolded


def _parse_field(line: bytearray) -> tuple[str, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name) or _FORBIDDEN.search(value):
        raise BrokenReplyError("malformed")
    return name.decode("ascii").lower(), bytes(value.strip(_BLANKS))


def _length(fields: Fields) -> int | None:
    """Return the Content-Length; several that are equal are one (RFC 9112 §6.3)."""
    lengths = {one.strip() for name, value in fields if name == "content-length" for one in value.split(b",")}
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(length := lengths.pop()):
        raise BrokenReplyError("malformed")
    return int(length)


def _chunked(fields: Fields) -> bool:
    """Tell whether the body is in chunks, which goes before any Content-Length; no other coding is understood."""
    codings = [value.lower() for name, value in fields if name == "transfer-encoding"]
    if codings and codings != [b"chunked"]:
        raise BrokenReplyError("malformed")
    return bool(codings)


async def _read_chunks(reader: BoundedReader, body: bytearray) -> None:
    """Read chunks to the last one and its trailers (RFC 9112 §7.1); extensions and trailers are not looked at."""
    while True:
        chunk = _CHUNK.fullmatch(await reader.line())
        if chunk is None:
            raise BrokenReplyError("malformed")
        size = int(chunk[1], 16)
        if size == 0:
            break
        await _read_exactly(reader, size, body)
        if await reader.line() != b"\r\n":
            raise BrokenReplyError("malformed")
    await _read_lines(reader, MAX_HEAD)


async def _read_exactly(reader: BoundedReader, size: int, body: bytearray) -> None:
    while size > 0:
        piece = await reader.piece(size)
        if not piece:
            raise BrokenReplyError("reset")
        _add(body, piece)
        size -= len(piece)


def _add(body: bytearray, piece: bytes) -> None:
    """Keep also what is too much: a refresh token may stand in it."""
    body += piece
    if len(body) > MAX_REPLY:
        raise BrokenReplyError("too_large")
