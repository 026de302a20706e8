"""What a token endpoint's answer means: for the redeem, for the caller, and which refresh token has to be saved.

    outcome        when                                                               the refresh token sent
    ─────────────  ─────────────────────────────────────────────────────────────────  ─────────────────────
    not_sent       no byte of the request was written                                 unspent
    not_consumed   429; 400 or 401 with a code that is checked before the token       unspent
                   (invalid_client, invalid_request, …); 401 without a known code;
                   a 5xx this provider is configured to answer before that
    refused        invalid_grant with any other 4xx                                   dead
    landed         2xx with a refresh token in it, whatever else is wrong or missing; spent, or still good when
                   a whole 200 with an access token and no refresh token              none came
    unknown        everything else: 5xx, 408, redirects, nothing readable             nobody knows

Nothing of the provider's text goes anywhere but into the token values: causes are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from broker.core.errors import (
    BrokerError,
    GrantQuarantinedError,
    GrantUncertainError,
    ProviderRefusedClientError,
    ProviderUnavailableError,
    ScopeNotGrantedError,
)
from broker.core.models import GrantType, Provider
from broker.core.oauth.causes import Cause
from broker.core.oauth.echo import repeats_any
from broker.core.oauth.error_reply import error_code
from broker.core.oauth.rfc6749 import HttpReply, SendFailure
from broker.core.oauth.salvage import salvage_refresh_token
from broker.core.oauth.token_response import (
    MalformedReplyError,
    TokenResponse,
    parse_members,
    parse_token_response,
)
from broker.core.secret import Secret

MAX_RETRY_AFTER: Final = 3600.0
"""Seconds; a provider cannot hold a grant for longer by asking."""


class Outcome(StrEnum):
    """What became of the request."""

    NOT_SENT = "not_sent"
    NOT_CONSUMED = "not_consumed"
    REFUSED = "refused"
    LANDED = "landed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reading:
    """A reply, read.

    Attributes:
        refresh_token: to be saved before anything else is done, also when `error` is set.
        tokens: the access token; None exactly when `error` is set.
        error: what the caller is told.
        cause: for the log and the grant's history.
        retry_after: seconds the provider asked for, bounded.
    """

    outcome: Outcome
    refresh_token: Secret | None = None
    tokens: TokenResponse | None = None
    error: BrokerError | None = None
    cause: Cause = Cause.NONE
    retry_after: float | None = None

    def problem(self) -> BrokerError:
        """Return the error of a reading without tokens; asking another one is a bug of ours."""
        if self.error is None:
            raise RuntimeError("a reading with tokens has no problem")
        return self.error


def read_reply(  # noqa: PLR0913 - every fact a reading depends on
    result: HttpReply | SendFailure,
    *,
    grant_type: GrantType,
    provider: Provider,
    sent_at: float,
    now: float,
    refuse_sandbox: bool = False,
) -> Reading:
    """Read what came back for a token request; never raises.

    `sent_at` (before sending) and `now` are UTC in seconds. With `refuse_sandbox` nothing that calls itself a sandbox
    is believed: a refresh token in it is still saved, its refusal is no verdict.
    """
    if isinstance(result, SendFailure):
        return _read_failure(result, grant_type)
    sandbox = refuse_sandbox and "aries-sandbox" in result.headers
    if 200 <= result.status < 300:  # noqa: PLR2004 - RFC 9110 §15.3
        return _read_success(result, grant_type, provider, sent_at, sandbox=sandbox)
    retry_after = _retry_after(result.headers.get("retry-after"), now)
    if sandbox:
        return _told(Outcome.UNKNOWN, Cause.SANDBOX, grant_type, retry_after)
    if result.status in provider.unspent_statuses:
        return _told(Outcome.NOT_CONSUMED, Cause.STATUS_5XX, grant_type, retry_after)
    outcome, cause = _decide(result.status, error_code(result), grant_type)
    return _told(outcome, cause, grant_type, retry_after)


def refuse_echo(reading: Reading, secrets: Iterable[Secret], grant_type: GrantType) -> Reading:
    """Return the reading without its access token if a secret of ours stands in that, else unchanged.

    A provider that hands back what it was sent, or its new refresh token, in whatever common encoding, as an access
    token must not make us hand a secret to a caller. Short secrets are compared whole: they occur in honest tokens by
    chance.
    """
    if reading.tokens is None:
        return reading
    if not repeats_any(reading.tokens.access_token.reveal(), (*secrets, reading.refresh_token)):
        return reading
    return _told(reading.outcome, Cause.ECHO, grant_type, saved=reading.refresh_token)


def _decide(status: int, code: str | None, grant_type: GrantType) -> tuple[Outcome, Cause]:
    """Decide whether an error reply is transient or final; the only place that does."""
    if status == 429:  # noqa: PLR2004 - RFC 6585 §4
        return Outcome.NOT_CONSUMED, Cause.THROTTLED
    if not 400 <= status < 500 or status == 408:  # noqa: PLR2004 - RFC 9110 §15.5
        family = {3: Cause.STATUS_3XX, 4: Cause.STATUS_4XX, 5: Cause.STATUS_5XX}
        return Outcome.UNKNOWN, family.get(status // 100, Cause.STATUS_OTHER)
    if code == Cause.INVALID_GRANT:
        final = grant_type is GrantType.REFRESH_TOKEN
        return Outcome.REFUSED if final else Outcome.NOT_CONSUMED, Cause.INVALID_GRANT
    if code is not None:
        # 403 and the like: the code tells the caller something, but not when it was checked.
        return Outcome.NOT_CONSUMED if status in {400, 401} else Outcome.UNKNOWN, Cause(code)
    if status == 401:  # noqa: PLR2004 - RFC 6749 §5.2: client authentication failed
        return Outcome.NOT_CONSUMED, Cause.UNAUTHENTICATED
    return Outcome.UNKNOWN, Cause.STATUS_4XX


def _read_failure(failure: SendFailure, grant_type: GrantType) -> Reading:
    cause = Cause.of_failure(failure.cause)
    if not failure.sent:
        return _told(Outcome.NOT_SENT, cause, grant_type)
    partial = failure.partial
    if partial is not None and 200 <= partial.status < 300:  # noqa: PLR2004 - RFC 9110 §15.3
        saved = salvage_refresh_token(partial)
        if saved is not None:
            return _told(Outcome.LANDED, cause, grant_type, saved=saved)
    return _told(Outcome.UNKNOWN, cause, grant_type)


def _read_success(
    reply: HttpReply, grant_type: GrantType, provider: Provider, sent_at: float, *, sandbox: bool
) -> Reading:
    saved = salvage_refresh_token(reply)
    outcome = Outcome.UNKNOWN if saved is None else Outcome.LANDED
    try:
        members = parse_members(reply)
        if saved is None and _says_not_rotated(reply, members):
            outcome = Outcome.LANDED
        tokens = parse_token_response(reply, members, default_expires_in=provider.default_expires_in, sent_at=sent_at)
    except MalformedReplyError as error:
        return _told(outcome, error.cause, grant_type, saved=saved)
    if sandbox:
        return _told(outcome, Cause.SANDBOX, grant_type, saved=saved)
    if reply.status != 200:  # noqa: PLR2004 - RFC 6749 §5.1
        return _told(outcome, Cause.STATUS_2XX, grant_type, saved=saved)
    if outcome is Outcome.UNKNOWN and grant_type is GrantType.REFRESH_TOKEN:
        return _told(outcome, Cause.REFRESH_TOKEN, grant_type)
    return Reading(Outcome.LANDED, refresh_token=saved, tokens=tokens)


def _says_not_rotated(reply: HttpReply, members: Mapping[str, object]) -> bool:
    """Tell whether a whole reply gives an access token and no refresh token, so that the old one stays good."""
    if reply.status != 200 or "error" in members:  # noqa: PLR2004 - RFC 6749 §5.1
        return False
    token = members.get("access_token")
    refresh_token = members.get("refresh_token")
    return isinstance(token, str) and bool(token) and (refresh_token is None or refresh_token == "")


def _told(
    outcome: Outcome,
    cause: Cause,
    grant_type: GrantType,
    retry_after: float | None = None,
    *,
    saved: Secret | None = None,
) -> Reading:
    """Return a reading without an access token, with the error its caller is told."""
    error = _error(outcome, cause, grant_type, retry_after)
    return Reading(outcome, refresh_token=saved, error=error, cause=cause, retry_after=retry_after)


def _error(outcome: Outcome, cause: Cause, grant_type: GrantType, retry_after: float | None) -> BrokerError:
    if outcome is Outcome.REFUSED:
        return GrantQuarantinedError("the provider refused the grant; it must be re-authorized", cause=cause)
    if outcome is Outcome.UNKNOWN and grant_type is GrantType.REFRESH_TOKEN:
        return GrantUncertainError("the provider's answer is not known; nothing is sent until it is", cause=cause)
    if cause in {Cause.INVALID_CLIENT, Cause.UNAUTHORIZED_CLIENT, Cause.UNAUTHENTICATED}:
        return ProviderRefusedClientError("the provider refused the broker's client credentials", cause=cause)
    if cause is Cause.INVALID_SCOPE:
        return ScopeNotGrantedError("the provider refused the scopes", cause=cause)
    if cause is Cause.INVALID_TARGET:
        return ScopeNotGrantedError("the provider refused the resource", cause=cause)
    return ProviderUnavailableError(
        "the provider gave no usable answer",
        cause=cause,
        metadata={"failure": cause.failure},
        retry_after=retry_after,
    )


def _retry_after(unverified_value: str | None, now: float) -> float | None:
    """Return seconds to wait from a Retry-After of either form (RFC 9110 §10.2.3), at least 0 and bounded."""
    if unverified_value is None:
        return None
    text = unverified_value.strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:9]), MAX_RETRY_AFTER))
    try:
        date = parsedate_to_datetime(text)
        at = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(at - now, 0.0), MAX_RETRY_AFTER)
