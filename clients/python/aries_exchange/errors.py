"""What can go wrong with a call, as one family, so that code which catches `AriesAPIError` catches all of it.

    AriesAPIError               Aries or the broker refused; `status_code` says how
    ├── AriesConnectionError    no whole answer came; `status_code` is 0
    └── ConsentRefusedError     the person did not agree to what an app asks for; `status_code` is 403

Arguments that cannot be right raise ValueError or TypeError before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx2

MAX_MESSAGE: Final = 300
"""Longest message, in characters."""
# They open sessions, and nobody needs them to handle an error.
_SECRET_HEADERS: Final = frozenset({"set-cookie", "set-cookie2", "authorization"})


class AriesAPIError(Exception):
    """A call that failed.

    Attributes:
        status_code: the HTTP status, or 0 where no answer came.
        message: what the reply says went wrong, for people.
        headers: the reply's headers; names are found in any case.
    """

    def __init__(self, status_code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        kept = {name: value for name, value in (headers or {}).items() if name.lower() not in _SECRET_HEADERS}
        super().__init__(status_code, message, kept)
        self.status_code = status_code
        self.message = message
        self.headers: Mapping[str, str] = httpx2.Headers(kept)

    def __str__(self) -> str:
        return f"{self.status_code}: {self.message}" if self.status_code else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.status_code}, {self.message!r})"


class AriesConnectionError(AriesAPIError):
    """The API could not be reached, or the connection ended before the whole answer was there.

    Attributes:
        sent: whether the request may have taken effect; an order that was sent is looked for before it is placed anew.
    """

    def __init__(
        self, status_code: int, message: str, headers: Mapping[str, str] | None = None, *, sent: bool = True
    ) -> None:
        super().__init__(status_code, message, headers)
        self.sent = sent


class ConsentRefusedError(AriesAPIError):
    """The person did not agree to the scopes that were asked for."""


def parse_error(status_code: int, body: bytes, headers: Mapping[str, str], secrets: Iterable[str]) -> AriesAPIError:
    """Return the error that a reply means.

    Args:
        status_code: the reply's.
        body: in any of the documented shapes, or in none.
        headers: the reply's.
        secrets: what was sent; a message that holds any of it is not passed on.
    """
    message = _clean(_message(_parsed(body)))
    if not message or any(_holds(message, secret) for secret in secrets if secret):
        message = _phrase(status_code)
    return AriesAPIError(status_code, message[:MAX_MESSAGE], headers)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _message(body: object) -> str:
    """Return the documented message: the JSON type of `error` tells the shapes apart."""
    if not isinstance(body, Mapping):
        return ""
    error = body.get("error")
    if isinstance(error, Mapping):  # nested, also beside `success: false`
        return _text(error, "message") or _text(error, "code") or _text(error, "type")
    if not isinstance(error, str):
        return _text(body, "message")
    # flat with its codes, RFC 6749 section 5.2, legacy
    detail = _description(body.get("codes")) or _text(body, "error_description") or _text(body, "message")
    return f"{error}: {detail}" if detail and detail != error else error


def _description(codes: object) -> str:
    first = codes[0] if isinstance(codes, list) and codes else None
    return _text(first, "description") if isinstance(first, Mapping) else ""


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _clean(message: str) -> str:
    """Replace what would act on a terminal or a log instead of being read there."""
    return "".join(char if char.isprintable() else " " for char in message).strip()


def _holds(message: str, secret: str) -> bool:
    """Tell whether a message quotes a secret, as it is or as JSON writes it."""
    return secret in message or json.dumps(secret)[1:-1] in message


def _phrase(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return f"HTTP status {status_code}"
