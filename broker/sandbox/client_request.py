"""What a client sends to the OAuth endpoints, and how it is refused there."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.sandbox.behaviour import UnregisteredScope
from broker.sandbox.config import ClientSeed
from broker.sandbox.errors import OAuthError, flat, invalid_request, invalid_scope
from broker.sandbox.parsing import parsed_json
from broker.sandbox.state import State

Params = Mapping[str, str]
MAX_BODY = 65_536
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def is_json(request: Request) -> bool:
    """Return whether the body is JSON; else it is a form."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"


def parse_params(body: bytes, *, body_is_json: bool) -> Params:
    """Return the parameters in a body, each of which stands there once.

    Raises:
        OAuthError: `invalid_request`, the body is no flat set of strings.
    """
    try:
        pairs = _json_pairs(body) if body_is_json else parse_qsl(body.decode("utf-8"), strict_parsing=bool(body))
    except ValueError as cause:
        raise invalid_request("the body cannot be read") from cause
    params = dict(pairs)
    if len(params) != len(pairs):
        raise invalid_request("a parameter appears twice")
    return params


async def read_body(request: Request) -> bytes:
    """Return the body of a request that nobody has authenticated.

    Raises:
        OAuthError: `invalid_request`, it is longer than `MAX_BODY`.
    """
    body = b""
    # Read to its end in any case: who is still sending would lose the reply with the connection.
    async for chunk in request.stream():
        body = (body + chunk)[: MAX_BODY + 1]
    if len(body) > MAX_BODY:
        raise OAuthError("invalid_request", "the body is too long", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return body


def asked_scopes(state: State, client: ClientSeed, params: Params, default: frozenset[str]) -> frozenset[str]:
    """Return the scopes asked for; a parameter without a value is one left out (RFC 6749 §3.1, §3.3).

    Raises:
        OAuthError: `invalid_scope`, the client is not registered for them all.
    """
    asked = frozenset(params.get("scope", "").split())
    if not asked:
        return default
    registered = asked & client.scopes
    if registered != asked and state.behaviour.unregistered_scope is UnregisteredScope.REFUSE:
        raise invalid_scope("not registered for this client")
    return registered


def required(params: Params, name: str) -> str:
    """Return a parameter that must be there.

    Raises:
        OAuthError: `invalid_request`, it is not.
    """
    if name not in params:
        raise invalid_request(f"{name} is missing", name)
    return params[name]


def refusal(error: OAuthError) -> Response:
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
    # JSON can name half a character, which is none in UTF-8: UnicodeEncodeError is a ValueError.
    "".join(value for _, value in document).encode()
    return document
