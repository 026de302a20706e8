"""The documented error bodies: flat (users, token endpoint) and nested (accounts, orders)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

_TYPES = {
    400: "VALIDATION",
    401: "AUTHENTICATION",
    403: "AUTHORIZATION",
    404: "NOT_FOUND",
    405: "BAD_REQUEST",
    429: "RATE_LIMIT",
}


class Shape(Enum):
    """Which of the two error bodies a route uses."""

    FLAT = "flat"
    NESTED = "nested"


class ApiError(Exception):
    """A request that the API refuses; the route decides its shape."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = headers or {}


class OAuthError(Exception):
    """A request to an OAuth endpoint that is refused, with its RFC 6749 code (§4.1.2.1, §5.2)."""

    def __init__(self, error: str, description: str, *, status: int = 400, field: str | None = None) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.field = field


def invalid_request(description: str, field: str | None = None) -> OAuthError:
    """Return the error for a request that is not well formed."""
    return OAuthError("invalid_request", description, field=field)


def invalid_scope(description: str) -> OAuthError:
    """Return the error for scopes that cannot be had."""
    return OAuthError("invalid_scope", description, field="scope")


def error_response(error: ApiError, shape: Shape) -> Response:
    """Return the reply for an API error in the route's shape."""
    if shape is Shape.FLAT:
        body = flat(error.message, error.code, error.message, error.field)
    else:
        details = {"field": error.field} if error.field else {}
        body = nested(error.status, error.code, error.message, details)
    return JSONResponse(body, status_code=error.status, headers=dict(error.headers))


def http_error(status: int) -> Response:
    """Return the nested reply for what HTTP alone refuses, such as a path that is not there."""
    phrase = HTTPStatus(status)
    return error_response(ApiError(status, phrase.name, phrase.phrase.lower()), Shape.NESTED)


def flat(error: str, code: str, description: str, field: str | None = None) -> dict[str, object]:
    """Return the flat body; `error` is a string."""
    entry = {"code": code, "description": description}
    return {"error": error, "codes": [{**entry, "field": field} if field else entry]}


def nested(status: int, code: str, message: str, details: Mapping[str, object]) -> dict[str, object]:
    """Return the nested body; `error` is an object, its type follows from the status."""
    return {
        "error": {
            "type": _TYPES.get(status, "INTERNAL"),
            "code": code,
            "message": message,
            "details": dict(details),
            "request_id": secrets.token_hex(8),
        },
    }
