"""Reading a reply: what is one, what is none, and what one may cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.bounded_reader import BUDGET, LEAST, MAX_LINE, TURN, BoundedReader, BrokenReplyError
from broker.adapters.http_reply import MAX_HEAD, MAX_REPLY, Arriving, read_reply
from broker.core.oauth.rfc6749 import HttpReply

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Arrival:
    """A peer that sent everything at once."""

    raw: bytes
    arriving: Arriving = field(default_factory=Arriving)
    taken: int = 0

    async def read(self) -> HttpReply | str:
        """Return the reply or the cause of there being none; `taken` are the bytes that were looked at."""
        stream = asyncio.StreamReader(limit=MAX_LINE)
        stream.feed_data(self.raw)
        stream.feed_eof()
        try:
            return await read_reply(BoundedReader(stream), self.arriving)
        except BrokenReplyError as error:
            return error.cause
        finally:
            self.taken = len(self.raw) - len(await stream.read())


class Turns:
    """How often the event loop came round."""

    def __init__(self) -> None:
        self.count = 0

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        """Count while the body runs."""
        counting = asyncio.create_task(self._count())
        yield
        counting.cancel()

    async def _count(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


def whole(body: bytes = b"", status: int = 200, **headers: str) -> HttpReply:
    """Return a reply; underscores in names are hyphens."""
    return HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        (OK + b"Content-Length: 2\r\n\r\nhi, and more", whole(b"hi", content_length="2")),
        (OK + b"content-length:2\r\ncontent-length: 2 , 2\r\n\r\nhi", whole(b"hi", content_length="2")),
        (OK + b"\r\nto the end", whole(b"to the end")),
        (b"HTTP/1.0 200\n\nbare ends", whole(b"bare ends")),
        (b"HTTP/1.1 404 \xc3\r\n\r\n", whole(status=404)),
        (OK + b"A: 1\r\na:\t2 \r\nB:\r\n\r\n", whole(a="1", b="")),
        (OK + b"a: one\r\n \t two\r\n\tthree\r\n\r\n", whole(a="one two three")),
        (OK + b"a: \xe9\r\n\r\n", whole(a="\xe9")),
        (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nhi", whole(status=204, content_length="2")),
        (b"HTTP/1.1 304 No\r\n\r\nhi", whole(status=304)),
        (b"HTTP/1.1 100\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\n" + OK + b"c: d\r\n\r\n", whole(c="d")),
        (
            CHUNKED + b"2\r\nhi\r\n00a;x=y\r\n0123456789\r\n0\r\n\r\nmore",
            whole(b"hi0123456789", transfer_encoding="chunked"),
        ),
        (CHUNKED + b"0 \r\ntrailer: x\r\nanything at all\r\n\r\n", whole(transfer_encoding="chunked")),
        (
            OK + b"Content-Length: 9\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            whole(b"x", content_length="9", transfer_encoding="Chunked"),
        ),
    ],
)
async def test_a_reply(raw: bytes, reply: HttpReply) -> None:
    """Every framing of RFC 9112 §6.3 is read to its end; headers are named in lower case, the first of each counts."""
    assert reply == await Arrival(raw).read()


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"blank : x\r\n\r\n",
        OK + b": no name\r\n\r\n",
        OK + b" folds nothing\r\n\r\n",
        OK + b"a: \x00\r\n\r\n",
        OK + b"a: b\rc\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
        OK + b"Content-Length: 1, 2\r\n\r\nhi",
        OK + b"Content-Length: +2\r\n\r\nhi",
        OK + b"Content-Length: -2\r\n\r\nhi",
        OK + b"Content-Length:\r\n\r\nhi",
        OK + b"Content-Length: " + b"9" * 21 + b"\r\n\r\nhi",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"\r\nhi\r\n",
        CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nhi!\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nhi\n0\r\n\r\n",
        CHUNKED + b"0" * 21 + b"\r\n\r\n",
    ],
)
async def test_no_reply(raw: bytes) -> None:
    """What is no HTTP/1.1 is not guessed at."""
    assert "malformed" == await Arrival(raw).read()


WHOLE = OK + b"Content-Length: 4\r\n\r\nbody", CHUNKED + b"2\r\nbo\r\n2;ext\r\ndy\r\n0\r\ntrailer: x\r\n\r\n"


@pytest.mark.parametrize("raw", WHOLE, ids=["length", "chunked"])
async def test_a_reply_that_breaks_off(raw: bytes) -> None:
    """Wherever it does, it is broken off, and what came of its body is kept once its head is whole."""
    head = raw.index(b"\r\n\r\n") + 4
    kept = None
    for cut in range(len(raw)):
        arrival = Arrival(raw[:cut])
        assert "reset" == await arrival.read()
        kept = arrival.arriving.reply()
        assert (cut >= head) == (kept is not None)
        assert kept is None or b"body".startswith(kept.unverified_body)
    assert kept is not None
    assert kept.unverified_body.startswith(b"bod")


INTERIM = b"HTTP/1.1 100\r\n\r\n"
ENDLESS = 4 * BUDGET
LINES = MAX_HEAD // LEAST


@pytest.mark.parametrize(
    ("raw", "cause", "most_taken", "turns"),
    [
        (INTERIM * 100_000, "malformed", LINES * (len(INTERIM) + 1), 2 * MAX_HEAD // TURN),
        (OK + b"a:\r\n" * 100_000, "malformed", LINES * 5, MAX_HEAD // TURN),
        (OK + b"a: b\r\n" + b" \r\n" * 100_000, "malformed", LINES * 4, MAX_HEAD // TURN),
        (OK + b"a:" + b" " * ENDLESS + b"\x00\r\n\r\n", "malformed", len(OK), 1),
        (OK + (b"a:" + b" " * (MAX_LINE - 5) + b"\r\n") * 100, "malformed", MAX_HEAD + MAX_LINE, MAX_HEAD // TURN // 2),
        (CHUNKED + b"1\r\nx\r\n" * 700_000, "too_large", 6 * (BUDGET // LEAST // 3 + 1), BUDGET // TURN),
        (CHUNKED + (b"1;" + b" " * 9_000 + b"\r\nx\r\n") * 500, "too_large", BUDGET + MAX_LINE, BUDGET // TURN // 2),
        (CHUNKED + b"1;" + b" " * ENDLESS + b"\n\r\nx\r\n", "malformed", len(CHUNKED), 1),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * 100_000, "malformed", LINES * 7, MAX_HEAD // TURN),
        (CHUNKED + b"ffffffffffffffffffff\r\n" + b"x" * ENDLESS, "too_large", MAX_REPLY + 2 * TURN, MAX_REPLY // TURN),
        (OK + b"\r\n" + b"x" * ENDLESS, "too_large", MAX_REPLY + 2 * TURN, MAX_REPLY // TURN),
    ],
    ids=[
        "interim-replies",
        "fields",
        "folds",
        "blanks",
        "blanks-in-many-lines",
        "one-byte-chunks",
        "chunk-extensions",
        "chunk-extension",
        "trailers",
        "chunk",
        "to-the-end",
    ],
)
async def test_what_a_reply_may_cost(raw: bytes, cause: str, most_taken: int, turns: int) -> None:
    """However a peer cuts up what it sends, little of it is looked at, and everybody else has turns meanwhile."""
    arrival, loop = Arrival(raw), Turns()
    async with loop.counted():
        assert cause == await arrival.read()
    assert most_taken >= arrival.taken - len(CHUNKED)
    assert turns <= loop.count + 1


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: %d\r\n\r\n" % MAX_REPLY + b"x" * MAX_REPLY,
        OK + b"a: " + b"b" * (MAX_LINE - 5) + b"\r\n\r\n" + b"x" * MAX_REPLY,
        CHUNKED + (b"40\r\n" + b"x" * 64 + b"\r\n") * (MAX_REPLY // 64) + b"0\r\n\r\n",
        CHUNKED + b"1\r\nx\r\n" * 5_000 + b"0\r\n\r\n",
    ],
    ids=["length", "large-head", "small-chunks", "one-byte-chunks"],
)
async def test_what_is_within_the_bounds(raw: bytes) -> None:
    """A body of 256 KiB is read in chunks of 64 bytes still, and one of 5000 bytes in chunks of one."""
    reply = await Arrival(raw).read()
    assert isinstance(reply, HttpReply)
    assert raw.count(b"x") == len(reply.unverified_body)


async def test_what_was_taken_is_kept_when_the_time_is_up() -> None:
    """At whichever turn of the loop a read is cancelled, all that was taken from the stream stands in the partial."""
    body, left = b"x" * (6 * TURN), 0
    for turns in range(8):
        stream = asyncio.StreamReader()
        stream.feed_data(OK + b"\r\n" + body)
        arriving = Arriving()
        reading = asyncio.create_task(read_reply(BoundedReader(stream), arriving))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        stream.feed_eof()
        left = (await stream.read()).count(b"x")
        assert len(body) == len(arriving.body) + left
    assert 0 == left


# --- beside another parser -------------------------------------------------------------------------------------------


def read_by_h11(raw: bytes) -> HttpReply | None:
    """Return what h11 makes of a reply that ends with its connection."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    connection.receive_data(b"")
    head, body = None, bytearray()
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    assert head is not None
    headers: dict[str, str] = {}
    for name, value in head.headers:
        headers.setdefault(name.decode(), value.decode("latin-1"))
    return HttpReply(head.status_code, headers, bytes(body))


ends = st.sampled_from([b"\r\n"] * 9 + [b"\n"])
fields = st.sampled_from(
    [
        b"a: b",
        b"A:c",
        b"b:",
        b"b: \t x  y ",
        b" folded",
        b"\tfolded ",
        b"c: \xe9",
        b"d: a\x0bb",
        b"e : f",
        b"g",
        b"h: \r",
    ]
)
framings = st.sampled_from(
    [
        b"",
        b"Content-Length: 5",
        b"content-length: 5, 5",
        b"Content-Length: 05",
        b"Content-Length: five",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: CHUNKED",
        b"Transfer-Encoding: gzip",
    ]
)
statuses = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 5 + [b"HTTP/1.0 400", b"HTTP/1.1 204 ", b"HTTP/1.1 500 a\tb", b"HTTP 200"]
)
bodies = st.sampled_from(
    [
        b"",
        b"hello",
        b"hell",
        b"hello, world",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"3;a=b\r\nhel\r\n2 \r\nlo\r\n0\r\na: b\r\n\r\n",
        b"5 ;a\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"g\r\n",
    ]
)


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """Draw a reply, right or nearly, with interim ones before it; some are cut off."""
    heads = [b"HTTP/1.1 100 Continue"] * draw(st.integers(0, 2)) + [draw(statuses)]
    lines = [line for head in heads for line in (head, *draw(st.lists(fields, max_size=2)), b"")]
    lines[-1:-1] = [framing for framing in draw(st.lists(framings, max_size=2)) if framing]
    raw = b"".join(line + draw(ends) for line in lines) + draw(bodies)
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 4)) == 0 else raw


@given(replies())
def test_another_parser_reads_the_same(raw: bytes) -> None:
    """What h11 takes for a reply is one here, and the same one; what it does not is none."""
    ours = asyncio.run(Arrival(raw).read())
    theirs = read_by_h11(raw)
    headers = {} if theirs is None else theirs.headers
    if isinstance(ours, HttpReply):
        # h11 tidies the two headers it understands.
        ours.headers.update(  # type: ignore[attr-defined]  # a dict of this test's own
            {name: headers[name] for name in ("content-length", "transfer-encoding") if name in headers}
        )
    assert theirs == (ours if isinstance(ours, HttpReply) else None)
