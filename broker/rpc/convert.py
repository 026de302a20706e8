"""Messages to values and back; the only place where text of a secret-bearing field is touched.

`debug_redact` redacts nothing in Python, so a message that carries a secret is taken apart here and goes nowhere else.
"""

from __future__ import annotations

import re
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from aries.broker.v1 import token_pb2
from broker.core.errors import InvalidRequestError
from broker.core.identity import CallerId
from broker.core.models import Narrowing
from broker.core.oauth.rfc8707 import resource_problem
from broker.core.secret import MAX_SECRET, Secret
from broker.flows.decide import TokenRequest
from broker.flows.get_token import IssuedToken

TOKEN_TYPE: Final = "Bearer"  # noqa: S105 - RFC 6750's name

FINGERPRINT: Final = re.compile("[0-9a-f]{32}")

_MAX_SECONDS: Final = 315_576_000_000
"""Bound of a google.protobuf.Duration."""

_NANOS: Final = 1_000_000_000

_NARROWING: Final = {
    Narrowing.EXACT: token_pb2.NARROWING_EXACT,
    Narrowing.NARROWED: token_pb2.NARROWING_NARROWED,
    Narrowing.UNVERIFIED: token_pb2.NARROWING_UNVERIFIED,
    Narrowing.WIDER: token_pb2.NARROWING_WIDER,
}


def token_request(request: token_pb2.GetTokenRequest, caller: CallerId) -> TokenRequest:
    """Return the caller's wish; its scopes are looked at by the flow, once the caller has paid for the call.

    Raises:
        InvalidRequestError: naming every malformed field.
    """
    problems: dict[str, str] = {}
    if request.resource and (problem := resource_problem(request.resource)):
        problems["resource"] = problem
    min_lifetime = None
    if request.HasField("min_lifetime"):
        min_lifetime = seconds_of(request.min_lifetime)
        if min_lifetime is None:
            problems["min_lifetime"] = "a lifetime is a duration that is not negative"
    rejected = request.rejected_fingerprint
    if rejected and not FINGERPRINT.fullmatch(rejected):
        problems["rejected_fingerprint"] = "a fingerprint is what a reply of GetToken said it is"
    if problems:
        raise InvalidRequestError("; ".join(problems.values()), fields=problems)
    return TokenRequest(caller, request.grant, tuple(request.scopes), min_lifetime, request.resource, rejected)


def token_reply(token: IssuedToken) -> token_pb2.GetTokenResponse:
    """Return the reply that carries a token."""
    expire_time = Timestamp()
    expire_time.FromDatetime(token.expires_at)
    return token_pb2.GetTokenResponse(
        access_token=token.access_token.reveal(),
        token_type=TOKEN_TYPE,
        scopes=token.scopes,
        expire_time=expire_time,
        lifetime=duration_of(token.lifetime),
        renew_after=duration_of(token.renew_after),
        narrowing=_NARROWING[token.narrowing],
        fingerprint=token.fingerprint,
        grant=token.grant,
        lifetime_assumed=token.lifetime_assumed,
        provider_scopes=token.provider_scopes,
        api_origins=token.api_origins,
        excess_scopes=token.excess_scopes,
    )


def secret_of(text: str, field: str) -> Secret:
    """Return the secret a request's field holds.

    Raises:
        InvalidRequestError: it is empty or longer than any secret; the text is not repeated.
    """
    if not text or len(text) > MAX_SECRET:
        problem = "required" if not text else f"has at most {MAX_SECRET} characters"
        raise InvalidRequestError(f"{field}: {problem}", fields={field: problem})
    return Secret(text)


def seconds_of(duration: Duration) -> float | None:
    """Return a well-formed duration that is not negative, in seconds; None for any other."""
    if not (0 <= duration.seconds <= _MAX_SECONDS and 0 <= duration.nanos < _NANOS):
        return None
    return duration.seconds + duration.nanos / _NANOS


def duration_of(seconds: float) -> Duration:
    """Return a duration, rounded down to a millisecond, so that no token is said to live longer than it does."""
    duration = Duration()
    duration.FromMilliseconds(max(0, int(seconds * 1000)))
    return duration
