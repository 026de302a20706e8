"""The error code in an error reply, whichever of the known shapes it has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from broker.core.oauth.causes import Cause
from broker.core.oauth.rfc6749 import HttpReply

_CODES: Final = frozenset(
    cause.value
    for cause in (
        Cause.INVALID_CLIENT,
        Cause.UNAUTHORIZED_CLIENT,
        Cause.INVALID_GRANT,
        Cause.INVALID_SCOPE,
        Cause.INVALID_TARGET,
        Cause.INVALID_REQUEST,
        Cause.UNSUPPORTED_GRANT_TYPE,
    )
)
# What a shared error writer's `error.type` says, in the words of RFC 6749 §5.2.
_NESTED_TYPES: Final = {
    "authentication": Cause.INVALID_CLIENT.value,
    "validation": Cause.INVALID_REQUEST.value,
    "bad_request": Cause.INVALID_REQUEST.value,
}


def error_code(reply: HttpReply, further: frozenset[str] = frozenset()) -> str | None:
    """Return the RFC 6749 §5.2 (or RFC 8707 §2) code of an error reply, or None when it states none we know.

    `further` are codes that the endpoint asked has beside these.

    Shapes: RFC style and flat (`error` a string, further `codes[].code`), nested (`error.code`, `error.type`), in upper
    or lower case; anything else, empty and HTML included, states none. A specific code goes before a nested `type`.
    """
    try:
        members = json.loads(reply.unverified_body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(members, dict):
        return None
    known = (word for word in _words(members) if word in _CODES or word in further)
    return next(known, None) or _nested_type(members)


def _words(members: Mapping[str, object]) -> Iterator[str]:
    error = members.get("error")
    nested = error if isinstance(error, dict) else {}
    codes = members.get("codes")
    entries = codes if isinstance(codes, list) else []
    candidates = [error, nested.get("code"), *(entry.get("code") for entry in entries if isinstance(entry, dict))]
    return (word.lower() for word in candidates if isinstance(word, str))


def _nested_type(members: Mapping[str, object]) -> str | None:
    error = members.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return _NESTED_TYPES.get(kind.lower()) if isinstance(kind, str) else None
