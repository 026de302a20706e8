"""An access token as the broker hands it out, and the request for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import token_pb2

MAX_SECONDS: Final = 315_576_000_000
"""The longest duration there is in the contract, in seconds: 10,000 years."""


class Narrowing(StrEnum):
    """How a token's scopes compare with its grant's.

    UNSPECIFIED also stands for what a newer broker says and this client does not know.
    """

    UNSPECIFIED = "UNSPECIFIED"
    EXACT = "EXACT"
    NARROWED = "NARROWED"
    UNVERIFIED = "UNVERIFIED"
    WIDER = "WIDER"


_NARROWINGS: Final[Mapping[int, Narrowing]] = {
    token_pb2.NARROWING_EXACT: Narrowing.EXACT,
    token_pb2.NARROWING_NARROWED: Narrowing.NARROWED,
    token_pb2.NARROWING_UNVERIFIED: Narrowing.UNVERIFIED,
    token_pb2.NARROWING_WIDER: Narrowing.WIDER,
}


@dataclass(frozen=True, slots=True)
class Token:
    """A short-lived access token; printing it does not reveal it.

    Attributes:
        access_token: the token itself, for `Authorization: Bearer …` to one of `api_origins` and nowhere else.
        lifetime: seconds it lives, from when the reply came.
        renew_after: seconds after which to ask again, from when the reply came.
        expire_time: when it expires by the broker's clock, for people.
        scopes: the scopes asked for.
        provider_scopes: the provider's scopes it carries.
        excess_scopes: those among them that go beyond what was asked; policy accepted them.
        narrowing: how its scopes compare with the grant's.
        fingerprint: names it without revealing it.
        grant: the grant it belongs to.
        token_type: how to present it; "Bearer".
        lifetime_assumed: the provider did not say how long it lives.
        api_origins: the origins (https://host[:port]) it may be sent to.
    """

    access_token: str = field(repr=False)
    lifetime: float
    renew_after: float
    expire_time: datetime
    scopes: tuple[str, ...]
    provider_scopes: tuple[str, ...]
    excess_scopes: tuple[str, ...]
    narrowing: Narrowing
    fingerprint: str
    grant: str
    token_type: str
    lifetime_assumed: bool
    api_origins: tuple[str, ...]


def build_request(
    scopes: Iterable[str], grant: str | None, min_lifetime: float | None, rejected_fingerprint: str | None
) -> token_pb2.GetTokenRequest:
    """Build the request; `min_lifetime` is in seconds.

    Raises:
        TypeError: `scopes` is one text instead of several.
        ValueError: `min_lifetime` is negative, no number or beyond every duration.
    """
    if isinstance(scopes, str):
        message = "scopes is a list of scopes, not one text"
        raise TypeError(message)
    if min_lifetime is not None and not 0 <= min_lifetime <= MAX_SECONDS:
        message = f"min_lifetime must not be negative, and is a number of at most {MAX_SECONDS} seconds"
        raise ValueError(message)
    request = token_pb2.GetTokenRequest(
        grant=grant or "", scopes=list(scopes), rejected_fingerprint=rejected_fingerprint or ""
    )
    if min_lifetime is not None:
        lifetime = Duration()
        lifetime.FromNanoseconds(round(min_lifetime * 1e9))
        request.min_lifetime.CopyFrom(lifetime)
    return request


def parse_response(response: token_pb2.GetTokenResponse) -> Token:
    """Return the token of a reply."""
    return Token(
        access_token=response.access_token,
        lifetime=response.lifetime.ToNanoseconds() / 1e9,
        renew_after=response.renew_after.ToNanoseconds() / 1e9,
        expire_time=response.expire_time.ToDatetime(tzinfo=UTC),
        scopes=tuple(response.scopes),
        provider_scopes=tuple(response.provider_scopes),
        excess_scopes=tuple(response.excess_scopes),
        narrowing=_NARROWINGS.get(response.narrowing, Narrowing.UNSPECIFIED),
        fingerprint=response.fingerprint,
        grant=response.grant,
        token_type=response.token_type,
        lifetime_assumed=response.lifetime_assumed,
        api_origins=tuple(response.api_origins),
    )
