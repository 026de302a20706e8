"""JWT bearers of callers (RFC 7519, RFC 8725): every decision but the signature's.

`parse` reads, `issuer_of` picks who must have signed, `check_header` says with what, and once the signature is
verified `check_claims` says who calls and until when.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from broker.core.errors import UnauthenticatedError
from broker.core.identity import CallerId, is_subject
from broker.core.models import Issuer

MAX_JWT: Final = 8 * 1024
"""Longest JWT, in bytes."""

MAX_LIFE: Final = 24 * 3600
"""Longest life of a caller's JWT, `exp` − `iat`, in seconds."""

LEEWAY: Final = 30
"""Seconds two clocks may differ."""

ASYMMETRIC: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Algorithms an issuer may list. HS* and none are not among them, so a public key can never be taken for a secret."""

REFUSED_HEADERS: Final = frozenset({"crit", "jku", "jwk", "x5u"})
"""Header parameters that would have us take keys from the token, or that must be understood (RFC 7515 §4.1.11)."""

MAX_KID: Final = 256
MAX_DATE: Final = 2**53
"""NumericDates beyond it are no whole seconds as a double, and nobody's honest time."""


@dataclass(frozen=True, slots=True)
class UnverifiedJwt:
    """A JWT's header and claims as the bearer states them; nothing here is proved."""

    header: Mapping[str, object]
    claims: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class VerifiedCaller:
    """Who a JWT proves, and until when (UTC epoch seconds)."""

    caller: CallerId
    expires_at: float


def refuse(cause: str) -> NoReturn:
    """Refuse a caller; the public text is the same whatever the cause."""
    raise UnauthenticatedError("the caller did not prove who it is", cause=cause)


def parse(unverified_jwt: str) -> UnverifiedJwt:
    """Read a compact JWS with JSON claims.

    Raises:
        UnauthenticatedError: it is longer than 8 KiB, has not three parts, or is no JSON object, or a key is twice.
    """
    if len(unverified_jwt) > MAX_JWT:
        refuse("jwt_too_long")
    parts = unverified_jwt.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        refuse("jwt_malformed")
    header, claims, _signature = parts
    return UnverifiedJwt(_json_object(header), _json_object(claims))


def _json_object(part: str) -> Mapping[str, object]:
    try:
        text = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        found = json.loads(text, object_pairs_hook=_unique)
    except (binascii.Error, ValueError, RecursionError):
        refuse("jwt_malformed")
    if not isinstance(found, dict):
        refuse("jwt_malformed")
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key is there twice"
        raise ValueError(msg)
    return found


def issuer_of(unverified: UnverifiedJwt, issuers: Iterable[Issuer]) -> Issuer:
    """Return the configured issuer whose identifier is exactly `iss`.

    Raises:
        UnauthenticatedError: there is none.
    """
    unverified_iss = unverified.claims.get("iss")
    for issuer in issuers:
        if issuer.issuer == unverified_iss:
            return issuer
    refuse("jwt_issuer")


def check_header(unverified: UnverifiedJwt, issuer: Issuer) -> tuple[str, str | None]:
    """Return the algorithm and key id the signature must be verified with.

    Raises:
        UnauthenticatedError: the algorithm is not one the issuer lists, or the header names keys or extensions.
    """
    header = unverified.header
    if not REFUSED_HEADERS.isdisjoint(header):
        refuse("jwt_header")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms or algorithm not in ASYMMETRIC:
        refuse("jwt_algorithm")
    kid = header.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        refuse("jwt_header")
    return algorithm, kid


def check_claims(claims: Mapping[str, object], issuer: Issuer, now: float) -> VerifiedCaller:
    """Return whom the claims of a JWT prove whose signature is good.

    Args:
        claims: of the verified JWT.
        issuer: who signed it.
        now: UTC epoch seconds.

    Raises:
        UnauthenticatedError: a claim is missing, wrong, or not for us now.
    """
    if claims.get("iss") != issuer.issuer:
        refuse("jwt_issuer")
    expires, issued = _seconds(claims, "exp"), _seconds(claims, "iat")
    if not now < expires + LEEWAY:
        refuse("jwt_expired")
    if issued > now + LEEWAY or ("nbf" in claims and _seconds(claims, "nbf") > now + LEEWAY):
        refuse("jwt_not_yet")
    if not 0 < expires - issued <= MAX_LIFE:
        refuse("jwt_life")
    _check_audience(claims.get("aud"), issuer)
    if any(claims.get(name) != value for name, value in issuer.require.items()):
        refuse("jwt_required_claim")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not is_subject(subject):
        refuse("jwt_subject")
    return VerifiedCaller(CallerId(issuer.name, subject), expires)


def _seconds(claims: Mapping[str, object], name: str) -> float:
    """Return a NumericDate (RFC 7519 §2); JSON's true is an int to Python and is none."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_DATE:
        refuse("jwt_time")
    return value


def _check_audience(unverified_aud: object, issuer: Issuer) -> None:
    """Require our audience, and beside it none but the issuer's extra ones (RFC 7519 §4.1.3)."""
    named = [unverified_aud] if isinstance(unverified_aud, str) else unverified_aud
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        refuse("jwt_audience")
    if issuer.audience not in named or not set(named) <= {issuer.audience, *issuer.extra_audiences}:
        refuse("jwt_audience")
