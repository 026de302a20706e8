"""What a client sends to the token endpoint or the revocation endpoint, and how it is refused there."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.sandbox.errors import TokenError, flat, invalid_request
from broker.sandbox.parsing import parsed_json

Params = Mapping[str, str]
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def is_json(request: Request) -> bool:
    """Return whether the body is JSON; else it is a form."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"


def parse_params(body: bytes, *, body_is_json: bool) -> Params:
    """Return the parameters in a body, each of which stands there once.

    Raises:
        TokenError: `invalid_request`, the body is no flat set of strings.
    """
    try:
        pairs = _json_pairs(body) if body_is_json else parse_qsl(body.decode("utf-8"), strict_parsing=bool(body))
    except ValueError as cause:
        raise invalid_request("the body cannot be read") from cause
    params = dict(pairs)
    if len(params) != len(pairs):
        raise invalid_request("a parameter appears twice")
    return params


def required(params: Params, name: str) -> str:
    """Return a parameter that must be there.

    Raises:
        TokenError: `invalid_request`, it is not.
    """
    if name not in params:
        raise invalid_request(f"{name} is missing", name)
    return params[name]


def refusal(error: TokenError) -> Response:
    """Return the flat reply that refuses a request."""
    body = flat(error.error, error.error.upper(), error.description, error.field)
    headers = dict(NO_STORE)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="aries-sandbox"'
    return JSONResponse(body, status_code=error.status, headers=headers)


def _json_pairs(body: bytes) -> list[tuple[str, str]]:
    document = parsed_json(body, object_pairs_hook=list)
    if not isinstance(document, list) or not all(
        isinstance(pair, tuple) and isinstance(pair[1], str) for pair in document
    ):
        raise ValueError("an object of strings")
    return document
