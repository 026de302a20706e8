"""Who may call the API: bearer token, scope, allowance."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from broker.sandbox.config import AccountSeed
from broker.sandbox.errors import ApiError, Shape, error_response
from broker.sandbox.state import AccessToken, State, state_of

Handler = Callable[[Request, State, AccessToken], Awaitable[Response]]


def protected(scope: str, shape: Shape, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that wants a live access token with this scope, and answers errors in this shape."""

    async def answer(request: Request) -> Response:
        state = state_of(request)
        try:
            access = _access(state, request)
            state.counters.last_api_scopes = sorted(access.scopes)
            _spend_allowance(state, access.client_id)
            if scope not in access.scopes:
                raise ApiError(403, "INSUFFICIENT_SCOPE", f"the access token lacks {scope}")  # noqa: TRY301, one place for errors
            response = await handler(request, state, access)
        except ApiError as error:
            response = error_response(error, shape)
        state.counters.api_calls[f"{request.method} {request.scope['route'].path} {response.status_code}"] += 1
        return response

    return answer


def account_in_path(request: Request, state: State, access: AccessToken) -> AccountSeed:
    """Return the account that the path names.

    Raises:
        ApiError: 404, the account is not there or not the user's.
    """
    return visible_account(state, access, request.path_params["id"])


def visible_account(state: State, access: AccessToken, account_id: str) -> AccountSeed:
    """Return the user's account with this id.

    Raises:
        ApiError: 404, the account is not there or not the user's.
    """
    account = state.account(access.user_id, account_id)
    if account is None:
        raise ApiError(404, "ACCOUNT_NOT_FOUND", "no such account")
    return account


def _access(state: State, request: Request) -> AccessToken:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    access = state.access_tokens.get(token.strip()) if scheme.lower() == "bearer" else None
    if access is None or access.expires_at <= state.now():
        code = "INVALID_TOKEN" if token else "MISSING_TOKEN"
        raise ApiError(
            401,
            code,
            "the access token is missing, unknown or expired",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"' if token else "Bearer"},
        )
    return access


def _spend_allowance(state: State, client_id: str) -> None:
    """Count the call in the client's sliding window, which holds `api_requests` at most."""
    allowed, window = state.behaviour.api_requests, state.behaviour.api_window_seconds
    if allowed is None:
        return
    now = state.now()
    times = state.api_times.setdefault(client_id, deque())
    while times and times[0] <= now - window:
        times.popleft()
    if len(times) >= allowed:
        wait = times[0] + window - now if times else window
        raise ApiError(429, "RATE_LIMITED", "too many requests", headers={"Retry-After": str(max(1, math.ceil(wait)))})
    times.append(now)
