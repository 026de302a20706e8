"""RFC 6749: token requests built and token replies read, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST to a token endpoint. `body` holds secrets: the type has no printable body."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"HttpRequest(url={self.url!r})"


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole reply, bounded. `unverified_body` may echo secrets: it is never logged and the type does not print it.

    Attributes:
        headers: lower-case names; only the first of a repeated one.
    """

    status: int
    headers: Mapping[str, str]
    unverified_body: bytes

    def __repr__(self) -> str:
        return f"HttpReply(status={self.status})"
