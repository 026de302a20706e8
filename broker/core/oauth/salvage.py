"""Finding a refresh token in a reply that may be wrong in every other way: saved first, refused after."""

from __future__ import annotations

import json
import re
import zlib
from typing import Final, TypeGuard

from broker.core.oauth.rfc6749 import HttpReply
from broker.core.secret import Secret

MAX_TOKEN_CHARS: Final = 8192
MAX_BODY: Final = 256 * 1024
"""Bytes of a body looked at, after inflating."""

_VSCHARS: Final = re.compile(rf"[\x20-\x7e]{{1,{MAX_TOKEN_CHARS}}}")
# The name and a whole string value. Text quoted inside another string does not match: its quotes carry backslashes.
_MEMBER: Final = re.compile(r'"refresh_token"\s*+:\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+")')
_GZIP_OR_ZLIB: Final = 47


def is_refresh_token(value: object) -> TypeGuard[str]:
    """Tell whether a value can be a refresh token: 1 to 8192 VSCHARs (RFC 6749 §A.17)."""
    return isinstance(value, str) and _VSCHARS.fullmatch(value) is not None


def salvage_refresh_token(reply: HttpReply) -> Secret | None:
    """Return the refresh token of a reply, whatever else is wrong with it, or None.

    Duplicate members, other wrong members, a wrong content type, a body that is not JSON or breaks off, even one that
    was compressed unasked: the token is returned as long as its string is whole. Of several, the last at the top level
    of the JSON text wins, as for most parsers, else the last one.
    """
    text = _inflated(reply).decode("utf-8", "replace")
    found = _from_json(text)
    if found is None:
        found = next((value for value in reversed(_from_text(text)) if is_refresh_token(value)), None)
    return None if found is None else Secret(found)


def _from_json(text: str) -> str | None:
    """Return the token of a well-formed JSON text; its top level is the last object the parser finishes."""
    objects: list[list[str]] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        objects.append([value for name, value in pairs if name == "refresh_token" and is_refresh_token(value)])

    try:
        json.loads(text, object_pairs_hook=collect)
    except (ValueError, RecursionError):
        return None
    return next((tokens[-1] for tokens in reversed(objects) if tokens), None)


def _from_text(text: str) -> list[object]:
    values: list[object] = []
    for member in _MEMBER.finditer(text):
        try:
            values.append(json.loads(member[1]))
        except ValueError:
            continue
    return values


def _inflated(reply: HttpReply) -> bytes:
    body = reply.unverified_body
    if reply.headers.get("content-encoding", "identity").strip().lower() in {"identity", ""}:
        return body[:MAX_BODY]
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(body, MAX_BODY)
    except zlib.error:
        return body[:MAX_BODY]
