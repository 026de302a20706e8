"""Scripted failures: an endpoint wrapped so that its next calls go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from broker.sandbox.behaviour import Failure, FailureBody, Target, When
from broker.sandbox.errors import flat, nested
from broker.sandbox.state import State, state_of

Endpoint = Callable[[Request], Awaitable[Response]]
HUGE_BYTES = 10 * 1024 * 1024
_CHUNK = b"x" * 65_536


def failing(target: Target, endpoint: Endpoint) -> Endpoint:
    """Return the endpoint, ready to fail as scripted for this target."""

    async def answer(request: Request) -> Response:
        state = state_of(request)
        if not state.failures[target]:
            return await endpoint(request)
        failure = state.failures[target].popleft()
        if failure.when is When.BEFORE:
            _count(state, target)
            return await _failed(failure, request, None)
        return await _failed(failure, request, await endpoint(request))

    return answer


def _count(state: State, target: Target) -> None:
    if target is Target.TOKEN:
        state.counters.token_calls += 1
        state.counters.token_outcomes["-/scripted"] += 1
    else:
        state.counters.api_calls["scripted"] += 1


async def _failed(failure: Failure, request: Request, answered: Response | None) -> Response:
    """Return the failure's reply; `answered` is the true one, where the call took effect."""
    status, headers = failure.status, dict(failure.headers)
    kind = failure.error.upper()
    fallback = JSONResponse(flat(failure.error, kind, "scripted failure"), status_code=status, headers=headers)
    true_reply = answered or fallback
    match failure.body:
        case FailureBody.FLAT:
            return fallback
        case FailureBody.NESTED:
            return JSONResponse(nested("INTERNAL", kind, "scripted failure", {}), status_code=status, headers=headers)
        case FailureBody.RFC:
            rfc = {"error": failure.error, "error_description": "scripted failure"}
            return JSONResponse(rfc, status_code=status, headers=headers)
        case FailureBody.EMPTY:
            return Response(status_code=status, headers=headers)
        case FailureBody.HTML:
            return HTMLResponse("<html><body><h1>Bad gateway</h1></body></html>", status_code=status, headers=headers)
        case FailureBody.HUGE:
            return StreamingResponse(_huge(), status_code=status, headers=headers, media_type="application/json")
        case FailureBody.ECHO:
            received = (await request.body()).decode("utf-8", "replace")
            described = f"cannot process {received} {request.headers.get('authorization', '')}"
            return JSONResponse(flat(failure.error, kind, described), status_code=status, headers=headers)
        case FailureBody.TRUNCATED:
            half = bytes(true_reply.body)[: len(true_reply.body) // 2]
            return Response(half, status_code=status, headers=headers, media_type="application/json")
        case FailureBody.DRIP:
            return StreamingResponse(
                _drip(bytes(true_reply.body), failure.drip_seconds, state_of(request)),
                status_code=true_reply.status_code,
                headers=headers,
                media_type="application/json",
            )
        case FailureBody.HANG:
            return _Hang(state_of(request))
        case FailureBody.CUT:
            return _Cut(bytes(true_reply.body), true_reply.status_code)
        case FailureBody.DROP:
            return _Drop()


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
        gone = asyncio.ensure_future(_disconnected(receive))
        released = asyncio.ensure_future(self._state.released.wait())
        _, pending = await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        _abort(scope)


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


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
