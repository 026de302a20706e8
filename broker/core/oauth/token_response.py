"""The success reply of a token endpoint (RFC 6749 §5.1), parsed strictly: what cannot be trusted is refused."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from broker.core.oauth.causes import Cause
from broker.core.oauth.rfc6749 import HttpReply
from broker.core.oauth.salvage import MAX_TOKEN_CHARS
from broker.core.secret import Secret

MIN_LIFE: Final = 1
MAX_LIFE: Final = 24 * 3600
_FAR_FUTURE: Final = 2**53  # an `exp` past it shortens nothing, and may be too large for a float

_B64TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3
_JSON_TYPE: Final = re.compile(r"application/([a-z0-9.-]+\+)?json")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_SCOPE_CLAIMS: Final = ("scope", "scp", "scopes")


class MalformedReplyError(Exception):
    """The reply is not a token response; `cause` says what is wrong with it."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """An access token and what was said of it.

    Attributes:
        expires_in: seconds it lives, counted from the moment before the request was sent.
        lifetime_assumed: the reply did not say how long; the provider's default was taken.
        reply_scopes: wire scopes the reply states, or None.
        unverified_claim_scopes: wire scopes the token's own claims state, or None. The JWT is not verified, so they may
            only make a verdict stricter.
        unverified_id_token: as it came (OpenID Connect Core §3.1.3.3), None where there was none.
    """

    access_token: Secret
    expires_in: float
    lifetime_assumed: bool
    reply_scopes: frozenset[str] | None = None
    unverified_claim_scopes: frozenset[str] | None = None
    unverified_id_token: Secret | None = None

    @property
    def granted(self) -> frozenset[str] | None:
        """Return everything stated by either, or None when nobody stated anything."""
        if self.reply_scopes is None and self.unverified_claim_scopes is None:
            return None
        return (self.reply_scopes or frozenset()) | (self.unverified_claim_scopes or frozenset())


def parse_members(reply: HttpReply) -> Mapping[str, object]:
    """Return the members of a reply's JSON object, whatever its content type.

    Raises:
        MalformedReplyError: it is compressed, not a JSON object, or names a member twice.
    """
    if reply.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
        raise MalformedReplyError(Cause.ENCODED)
    try:
        members = json.loads(
            reply.unverified_body.decode("utf-8-sig"), object_pairs_hook=_distinct, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise MalformedReplyError(Cause.MALFORMED) from error
    if not isinstance(members, dict):
        raise MalformedReplyError(Cause.MALFORMED)
    return members


def parse_token_response(
    reply: HttpReply, members: Mapping[str, object], *, default_expires_in: int, sent_at: float
) -> TokenResponse:
    """Return the access token of a reply whose members were parsed.

    `sent_at` is UTC in seconds, taken before sending; `default_expires_in` in seconds stands in for an absent
    `expires_in`. The life is the shorter one of what the reply and the token's own `exp` say.

    Raises:
        MalformedReplyError: anything in it is not as RFC 6749 §5.1 and RFC 6750 §2.1 say, or it lives under a second.
    """
    media_type = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    _require(_JSON_TYPE.fullmatch(media_type) is not None, Cause.CONTENT_TYPE)
    _require("error" not in members, Cause.ERROR_IN_SUCCESS)
    token = members.get("access_token")
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or _B64TOKEN.fullmatch(token) is None:
        raise MalformedReplyError(Cause.ACCESS_TOKEN)
    token_type = members.get("token_type")
    _require(isinstance(token_type, str) and token_type.lower() == "bearer", Cause.TOKEN_TYPE)
    stated = _expires_in(members.get("expires_in"))
    unverified_claims = _unverified_claims(token)
    life = float(default_expires_in if stated is None else stated)
    expiry = unverified_claims.get("exp")
    if isinstance(expiry, int | float) and not isinstance(expiry, bool) and expiry < _FAR_FUTURE:
        life = min(life, max(expiry, 0) - sent_at)
    _require(life >= MIN_LIFE, Cause.EXPIRED)
    return TokenResponse(
        access_token=Secret(token),
        expires_in=life,
        lifetime_assumed=stated is None,
        reply_scopes=_scopes(members.get("scope")),
        unverified_claim_scopes=_claim_scopes(unverified_claims),
        unverified_id_token=_id_token(members.get("id_token")),
    )


def _id_token(value: object) -> Secret | None:
    return Secret(value) if isinstance(value, str) and 0 < len(value) <= MAX_TOKEN_CHARS else None


def _require(holds: bool, cause: Cause) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise MalformedReplyError(cause)


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    _require(len(members) == len(pairs), Cause.DUPLICATE_KEY)
    return members


def _no_constant(_: str) -> NoReturn:
    raise MalformedReplyError(Cause.MALFORMED)


def _expires_in(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not MIN_LIFE <= value <= MAX_LIFE:
        raise MalformedReplyError(Cause.EXPIRES_IN)
    return value


def _scopes(value: object) -> frozenset[str] | None:
    """Return scopes stated as a space-separated string or a list; None when nothing is stated."""
    if value is None:
        return None
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list):
        raise MalformedReplyError(Cause.SCOPE)
    if not all(isinstance(word, str) and (not word or _SCOPE_TOKEN.fullmatch(word)) for word in words):
        raise MalformedReplyError(Cause.SCOPE)
    return frozenset(word for word in words if word)


def _claim_scopes(unverified_claims: Mapping[str, object]) -> frozenset[str] | None:
    stated = [_scopes(unverified_claims.get(name)) for name in _SCOPE_CLAIMS]
    known = [scopes for scopes in stated if scopes is not None]
    return frozenset().union(*known) if known else None


def _unverified_claims(token: str) -> Mapping[str, object]:
    """Return the claims of a token that looks like a JWT; an opaque token has none.

    Raises:
        MalformedReplyError: a claim stands there twice: nobody knows which one the API believes (RFC 7519 §4).
    """
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature (RFC 7515 §3.1)
        return {}
    try:
        claims = json.loads(
            base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), object_pairs_hook=_distinct
        )
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
