"""Scripted failures: an endpoint wrapped so that its next calls go wrong, or are answered late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from broker.sandbox.errors import flat, nested
from broker.sandbox.script import Failure, FailureBody, Target, When
from broker.sandbox.state import State, state_of

Endpoint = Callable[[Request], Awaitable[Response]]
HUGE_BYTES = 10 * 1024 * 1024
_CHUNK = b"x" * 65_536
_HTML = b"<html><body><h1>Bad gateway</h1></body></html>"


def failing(target: Target, endpoint: Endpoint) -> Endpoint:
    """Return the endpoint, ready to fail as scripted for this target."""

    async def answer(request: Request) -> Response:
        state = state_of(request)
        if not state.failures[target]:
            return await endpoint(request)
        failure = state.failures[target].popleft()
        if failure.when is When.BEFORE:
            _count(state, target)
            return await _failed(failure, request, state, None)
        return await _failed(failure, request, state, await endpoint(request))

    return answer


def _count(state: State, target: Target) -> None:
    match target:
        case Target.TOKEN:
            state.counters.token_calls += 1
            state.counters.token_outcomes["-/scripted"] += 1
        case Target.REVOKE:
            state.counters.revocation_calls += 1
            state.counters.revocation_outcomes["-/scripted"] += 1
        case Target.API:
            state.counters.api_calls["scripted"] += 1


@dataclass(frozen=True)
class _Occasion:
    """One call that fails: what was received, and what would have been answered."""

    failure: Failure
    state: State
    received: str
    true_reply: Response


async def _failed(failure: Failure, request: Request, state: State, answered: Response | None) -> Response:
    """Return the failure's reply; `answered` is the true one, where the call took effect."""
    body = (await request.body()).decode("utf-8", "replace")
    received = f"{body} {request.headers.get('authorization', '')}"
    scripted = _flat(failure, "scripted failure")
    reply = _BODIES[failure.body](_Occasion(failure, state, received, answered or scripted))
    return _Late(reply, failure.delay_seconds, state) if failure.delay_seconds else reply


def _flat(failure: Failure, description: str) -> Response:
    return _json(failure, flat(failure.error, failure.error.upper(), description))


def _nested(failure: Failure) -> Response:
    return _json(failure, nested(failure.status, failure.error.upper(), "scripted failure", {}))


def _rfc(failure: Failure) -> Response:
    return _json(failure, {"error": failure.error, "error_description": "scripted failure"})


def _json(failure: Failure, body: Mapping[str, object]) -> Response:
    return JSONResponse(body, status_code=failure.status, headers=dict(failure.headers))


def _text(failure: Failure, body: bytes, media_type: str | None) -> Response:
    return Response(body, status_code=failure.status, headers=dict(failure.headers), media_type=media_type)


def _truncated(occasion: _Occasion) -> Response:
    body = bytes(occasion.true_reply.body)
    return _text(occasion.failure, body[: len(body) // 2], "application/json")


def _oversized(failure: Failure) -> Response:
    headers = dict(failure.headers)
    return StreamingResponse(_huge(), status_code=failure.status, headers=headers, media_type="application/json")


def _dripping(occasion: _Occasion) -> Response:
    return StreamingResponse(
        _drip(bytes(occasion.true_reply.body), occasion.failure.drip_seconds, occasion.state),
        status_code=occasion.true_reply.status_code,
        headers=dict(occasion.failure.headers),
        media_type="application/json",
    )


async def _huge() -> AsyncIterator[bytes]:
    yield b'{"error":"'
    for _ in range(HUGE_BYTES // len(_CHUNK)):
        yield _CHUNK
    yield b'"}'


async def _drip(body: bytes, pause: float, state: State) -> AsyncIterator[bytes]:
    for position in range(len(body)):
        try:
            await asyncio.wait_for(state.released.wait(), pause)
        except TimeoutError:
            yield body[position : position + 1]
        else:
            return


class _Hang(Response):
    """No reply at all until the peer goes away or the sandbox stops; then the connection closes."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002, ASGI's signature
        await _interrupted(self._state, receive, None)
        _abort(scope)


class _Late(Response):
    """A reply that is sent after a while; where the wait ends early the connection closes without it."""

    def __init__(self, reply: Response, delay: float, state: State) -> None:
        super().__init__()
        self._reply = reply
        self._delay = delay
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if await _interrupted(self._state, receive, self._delay):
            _abort(scope)
        else:
            await self._reply(scope, receive, send)


class _Cut(Response):
    """Half of a reply, then the connection closes."""

    def __init__(self, body: bytes, status: int) -> None:
        super().__init__(body, status_code=status, media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002, ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        # An orderly close, so that the half is received.
        scope["state"]["transport"].close()


class _Drop(Response):
    """The connection closes without a byte of reply."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002, ASGI's signature
        _abort(scope)


def _abort(scope: Scope) -> None:
    # The transport is put there by the server's protocol class.
    scope["state"]["transport"].abort()


async def _interrupted(state: State, receive: Receive, seconds: float | None) -> bool:
    """Wait, and return whether the peer went away or waiting calls were released before these seconds were over."""
    gone = asyncio.ensure_future(_disconnected(receive))
    released = asyncio.ensure_future(state.released.wait())
    done, pending = await asyncio.wait({gone, released}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return bool(done)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


_BODIES: Mapping[FailureBody, Callable[[_Occasion], Response]] = {
    FailureBody.FLAT: lambda occasion: _flat(occasion.failure, "scripted failure"),
    FailureBody.NESTED: lambda occasion: _nested(occasion.failure),
    FailureBody.RFC: lambda occasion: _rfc(occasion.failure),
    FailureBody.EMPTY: lambda occasion: _text(occasion.failure, b"", None),
    FailureBody.HTML: lambda occasion: _text(occasion.failure, _HTML, "text/html"),
    FailureBody.HUGE: lambda occasion: _oversized(occasion.failure),
    FailureBody.ECHO: lambda occasion: _flat(occasion.failure, f"cannot process {occasion.received}"),
    FailureBody.TRUNCATED: _truncated,
    FailureBody.DRIP: _dripping,
    FailureBody.HANG: lambda occasion: _Hang(occasion.state),
    FailureBody.CUT: lambda occasion: _Cut(bytes(occasion.true_reply.body), occasion.true_reply.status_code),
    FailureBody.DROP: lambda _occasion: _Drop(),
    FailureBody.TRUE: lambda occasion: occasion.true_reply,
}
