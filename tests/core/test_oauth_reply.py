"""What a token endpoint's answers mean."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest

from broker.core.errors import Reason
from broker.core.models import GrantType
from broker.core.oauth.causes import Cause
from broker.core.oauth.reply import Outcome, read_reply
from broker.core.oauth.rfc6749 import HttpReply, SendFailure
from tests.core.oauth_values import JSON, NOW, PROVIDER, jwt, read, reply, success

RFC = b'{"error": "%s", "error_description": "SECRET-ECHO"}'
NOT_SENT, NOT_CONSUMED, REFUSED, LANDED, UNKNOWN = Outcome
UNAVAILABLE, REFUSED_CLIENT = Reason.PROVIDER_UNAVAILABLE, Reason.PROVIDER_REFUSED_CLIENT
QUARANTINED, UNCERTAIN, NOT_GRANTED = Reason.GRANT_QUARANTINED, Reason.GRANT_UNCERTAIN, Reason.SCOPE_NOT_GRANTED


def _nested(kind: str, code: str) -> bytes:
    return json.dumps({"error": {"type": kind, "code": code, "message": "SECRET-ECHO"}}).encode()


def _codes(code: str) -> bytes:
    return json.dumps({"error": "Some words", "codes": [7, {"code": code}]}).encode()


@pytest.mark.parametrize(
    ("result", "outcome", "cause", "refresh", "client_credentials"),
    [
        (SendFailure(sent=False, cause="dns"), NOT_SENT, "dns", UNAVAILABLE, UNAVAILABLE),
        (SendFailure(sent=False, cause="words of theirs"), NOT_SENT, "malformed", UNAVAILABLE, UNAVAILABLE),
        (SendFailure(sent=True, cause="reset"), UNKNOWN, "reset", UNCERTAIN, UNAVAILABLE),
        (reply(429, b"slow down"), NOT_CONSUMED, "throttled", UNAVAILABLE, UNAVAILABLE),
        (reply(400, RFC % b"invalid_client"), NOT_CONSUMED, "invalid_client", REFUSED_CLIENT, REFUSED_CLIENT),
        (reply(401, RFC % b"unauthorized_client"), NOT_CONSUMED, "unauthorized_client", REFUSED_CLIENT, REFUSED_CLIENT),
        (reply(401), NOT_CONSUMED, "unauthenticated", REFUSED_CLIENT, REFUSED_CLIENT),
        (reply(401, b"<html>"), NOT_CONSUMED, "unauthenticated", REFUSED_CLIENT, REFUSED_CLIENT),
        (reply(403, RFC % b"invalid_client"), UNKNOWN, "invalid_client", UNCERTAIN, REFUSED_CLIENT),
        (reply(400, RFC % b"invalid_scope"), NOT_CONSUMED, "invalid_scope", NOT_GRANTED, NOT_GRANTED),
        (reply(400, RFC % b"invalid_target"), NOT_CONSUMED, "invalid_target", NOT_GRANTED, NOT_GRANTED),
        (reply(400, RFC % b"invalid_request"), NOT_CONSUMED, "invalid_request", UNAVAILABLE, UNAVAILABLE),
        (
            reply(400, RFC % b"unsupported_grant_type"),
            NOT_CONSUMED,
            "unsupported_grant_type",
            UNAVAILABLE,
            UNAVAILABLE,
        ),
        (reply(400, RFC % b"something_new"), UNKNOWN, "status_4xx", UNCERTAIN, UNAVAILABLE),
        (reply(400, _nested("AUTHENTICATION", "X")), NOT_CONSUMED, "invalid_client", REFUSED_CLIENT, REFUSED_CLIENT),
        (reply(400, _nested("VALIDATION", "INVALID_SCOPE")), NOT_CONSUMED, "invalid_scope", NOT_GRANTED, NOT_GRANTED),
        (reply(400, _codes("INVALID_REQUEST")), NOT_CONSUMED, "invalid_request", UNAVAILABLE, UNAVAILABLE),
        (reply(400, b"[" * 100_000), UNKNOWN, "status_4xx", UNCERTAIN, UNAVAILABLE),
        (reply(400, b'["invalid_grant"]'), UNKNOWN, "status_4xx", UNCERTAIN, UNAVAILABLE),
        (reply(404, b"<html>no</html>"), UNKNOWN, "status_4xx", UNCERTAIN, UNAVAILABLE),
        (reply(408, RFC % b"invalid_grant"), UNKNOWN, "status_4xx", UNCERTAIN, UNAVAILABLE),
        (reply(500, RFC % b"invalid_grant"), UNKNOWN, "status_5xx", UNCERTAIN, UNAVAILABLE),
        (reply(503), UNKNOWN, "status_5xx", UNCERTAIN, UNAVAILABLE),
        (reply(302, location="https://elsewhere.example"), UNKNOWN, "status_3xx", UNCERTAIN, UNAVAILABLE),
        (reply(101), UNKNOWN, "status_other", UNCERTAIN, UNAVAILABLE),
        (reply(200, b"<html>"), UNKNOWN, "malformed", UNCERTAIN, UNAVAILABLE),
        (reply(200), UNKNOWN, "malformed", UNCERTAIN, UNAVAILABLE),
        (reply(200, b'{"error": "invalid_grant"}'), UNKNOWN, "error_in_success", UNCERTAIN, UNAVAILABLE),
        (reply(204), UNKNOWN, "malformed", UNCERTAIN, UNAVAILABLE),
    ],
)
def test_every_failure_has_one_reading(
    result: HttpReply | SendFailure, outcome: Outcome, cause: str, refresh: Reason, client_credentials: Reason
) -> None:
    """Each way to fail has one outcome, one cause of ours and one reason per kind of grant."""
    readings = [read(result, GrantType.REFRESH_TOKEN), read(result, GrantType.CLIENT_CREDENTIALS)]
    reasons = [reading.error.reason for reading in readings if reading.error]
    assert (outcome, cause, [refresh, client_credentials]) == (readings[0].outcome, readings[0].cause, reasons)
    assert [None, None] == [reading.tokens for reading in readings]


@pytest.mark.parametrize(
    "result",
    [
        reply(400, RFC % b"invalid_grant"),
        reply(401, RFC % b"INVALID_GRANT"),
        reply(403, RFC % b"invalid_grant"),
        reply(400, _nested("BAD_REQUEST", "invalid_grant")),
        reply(400, _codes("INVALID_GRANT")),
    ],
)
def test_invalid_grant_is_a_verdict_only_on_a_refresh_token(result: HttpReply) -> None:
    """`invalid_grant` with a 4xx refuses a refresh token; for client credentials it is nonsense and passes."""
    refresh, own = read(result), read(result, GrantType.CLIENT_CREDENTIALS)
    assert (REFUSED, QUARANTINED) == (refresh.outcome, refresh.error and refresh.error.reason)
    assert (NOT_CONSUMED, UNAVAILABLE) == (own.outcome, own.error and own.error.reason)


def test_a_provider_may_answer_a_server_error_before_it_reads_the_token() -> None:
    """A status it is configured for leaves the token unspent; another one, or a reply that breaks off, does not."""
    early = replace(PROVIDER, unspent_statuses=frozenset({503}))
    results: list[HttpReply | SendFailure] = [
        reply(503, b"", **{"retry-after": "7"}),
        reply(500),
        SendFailure(sent=True, cause="reset"),
    ]
    readings = [
        read_reply(result, grant_type=GrantType.REFRESH_TOKEN, provider=early, sent_at=0, now=0) for result in results
    ]
    assert [(NOT_CONSUMED, 7.0), (UNKNOWN, None), (UNKNOWN, None)] == [
        (reading.outcome, reading.retry_after) for reading in readings
    ]


def test_a_success_is_read() -> None:
    """A good reply gives the tokens and what was said of them."""
    reading = read(success(refresh_token="rt-2", scope="trade read"))
    assert (LANDED, None, Cause.NONE) == (reading.outcome, reading.error, reading.cause)
    assert reading.refresh_token is not None
    assert "rt-2" == reading.refresh_token.reveal()
    assert reading.tokens is not None
    assert ("at-1", 3600.0, False) == (
        reading.tokens.access_token.reveal(),
        reading.tokens.expires_in,
        reading.tokens.lifetime_assumed,
    )
    assert frozenset({"read", "trade"}) == reading.tokens.granted


@pytest.mark.parametrize("absent", [None, ""])
def test_no_refresh_token_means_not_rotated(absent: str | None) -> None:
    """A whole reply without a refresh token has landed and changes nothing about the old one."""
    reading = read(success(refresh_token=absent))
    assert (LANDED, None, True) == (reading.outcome, reading.refresh_token, reading.tokens is not None)


@pytest.mark.parametrize("strange", [7, ["rt"], {"a": 1}, "é", "x" * 8193, "a\nb"])
def test_a_refresh_token_that_cannot_be_kept_leaves_the_grant_unknown(strange: object) -> None:
    """A refresh token we cannot store is neither landed nor "not rotated"; client credentials do not care."""
    result = success(refresh_token=strange)
    assert (UNKNOWN, "refresh_token") == (read(result).outcome, read(result).cause)
    assert LANDED is read(result, GrantType.CLIENT_CREDENTIALS).outcome


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"access_token": None}, "access_token"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": "a b"}, "access_token"),
        ({"access_token": "a" * 8193}, "access_token"),
        ({"access_token": 7}, "access_token"),
        ({"token_type": "DPoP"}, "token_type"),
        ({"token_type": None}, "token_type"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": -5}, "expires_in"),
        ({"expires_in": 86_401}, "expires_in"),
        ({"expires_in": 1.5}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"expires_in": "9" * 5000}, "expires_in"),
        ({"scope": 'read "trade'}, "scope"),
        ({"scope": 7}, "scope"),
        ({"scope": ["read", 7]}, "scope"),
        ({"access_token": jwt(exp=NOW - 10)}, "expired"),
        ({"access_token": jwt(exp=float("-inf"))}, "expired"),
        ({"access_token": jwt(scope="caf\u00e9")}, "scope"),
        ({"access_token": "e30.eyJzY29wZSI6ImEiLCJzY29wZSI6ImIifQ.c2ln"}, "duplicate_key"),  # scope a, scope b
        ({"error": "none"}, "error_in_success"),
    ],
)
def test_a_wrong_member_is_refused_after_the_refresh_token_is_saved(wrong: dict[str, object], cause: str) -> None:
    """Whatever else is wrong with a 200, its refresh token is saved and its access token refused."""
    reading = read(success(**{"refresh_token": "rt-2", **wrong}))
    assert reading.refresh_token is not None
    assert ("rt-2", LANDED, cause, None) == (
        reading.refresh_token.reveal(),
        reading.outcome,
        reading.cause,
        reading.tokens,
    )
    assert reading.error is not None
    assert (UNAVAILABLE, {"failure": "malformed"}) == (reading.error.reason, reading.error.metadata)


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (reply(200, b'{"refresh_token":"old","refresh_token":"rt-2"}'), "duplicate_key"),
        (reply(200, b'{"refresh_token":"rt-2","refresh_token":null}'), "duplicate_key"),
        (reply(200, b'{"data":{"refresh_token":"rt-2"}}'), "access_token"),
        (
            reply(200, b'{"a":{"refresh_token":"old"},"refresh_token":"rt-2","b":[{"refresh_token":"x"}]}'),
            "access_token",
        ),
        (reply(200, b'{"refresh_token" : "r\\u0074-2", "access_tok'), "malformed"),
        (reply(200, b'\xff\xfe {"refresh_token":"rt-2"}'), "malformed"),
        (reply(200, b'{"scope":NaN,"refresh_token":"rt-2"}'), "malformed"),
        (reply(200, b"[" * 100_000 + b'{"refresh_token":"rt-2"}'), "malformed"),
        (reply(200, b'{"x":' + b"9" * 5000 + b',"refresh_token":"rt-2"}'), "malformed"),
        (HttpReply(200, {"content-type": "text/html"}, success(refresh_token="rt-2").unverified_body), "content_type"),
        (HttpReply(200, {}, success(refresh_token="rt-2").unverified_body), "content_type"),
        (reply(201, success(refresh_token="rt-2").unverified_body), "status_2xx"),
        (
            reply(200, gzip.compress(success(refresh_token="rt-2").unverified_body), content_encoding="gzip"),
            "encoded",
        ),
        (reply(200, success(refresh_token="rt-2").unverified_body, content_encoding="gzip"), "encoded"),
        (SendFailure(sent=True, cause="reset", partial=reply(200, b'{"refresh_token":"rt-2","acc')), "reset"),
    ],
)
def test_a_refresh_token_is_salvaged(result: HttpReply | SendFailure, cause: str) -> None:
    """A whole refresh token string in a broken reply is saved."""
    reading = read(result)
    assert reading.refresh_token is not None
    assert ("rt-2", LANDED, cause, None) == (
        reading.refresh_token.reveal(),
        reading.outcome,
        reading.cause,
        reading.tokens,
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"refresh_token":"rt-2',
        b'{"refresh_token":"rt-2\\"',
        b'{"note":"\\"refresh_token\\":\\"rt-2\\""',
        b'{"refresh_token":"r\\x"',
        b'{"refresh_token":"\xff"',
    ],
)
def test_a_string_that_is_not_whole_is_not_salvaged(body: bytes) -> None:
    """What could be half a token, or a quotation, is no token."""
    reading = read(SendFailure(sent=True, cause="reset", partial=reply(200, body)))
    assert (UNKNOWN, None) == (reading.outcome, reading.refresh_token)


def test_a_partial_error_reply_is_not_searched() -> None:
    """An error reply that broke off may echo the old token: nothing is taken from it."""
    reading = read(SendFailure(sent=True, cause="reset", partial=reply(500, b'{"refresh_token":"old"}')))
    assert (UNKNOWN, None) == (reading.outcome, reading.refresh_token)


def test_a_bomb_inflates_to_the_bound() -> None:
    """A compressed reply is inflated no further than the size limit."""
    body = gzip.compress(b" " * 5_000_000 + b'{"refresh_token":"rt-2"}')
    assert None is read(reply(200, body, content_encoding="gzip")).refresh_token


@pytest.mark.parametrize(
    ("members", "life", "assumed"),
    [
        ({"expires_in": 1}, 1.0, False),
        ({"expires_in": 86_400}, 86_400.0, False),
        ({"expires_in": "600"}, 600.0, False),
        ({"expires_in": None}, 1234.0, True),
        ({"access_token": jwt(exp=NOW + 95)}, 100.0, False),
        ({"access_token": jwt(exp=NOW + 95), "expires_in": None}, 100.0, True),
        ({"access_token": jwt(exp=NOW + 9_000)}, 3600.0, False),
        ({"access_token": jwt(exp=10**400)}, 3600.0, False),
        ({"access_token": jwt(exp="soon")}, 3600.0, False),
        ({"access_token": "a.%%.c".replace("%", "_")}, 3600.0, False),
    ],
)
def test_the_shorter_life_counts(members: dict[str, object], life: float, assumed: bool) -> None:
    """A token lives as long as the shorter of reply and `exp` says, counted from before sending."""
    tokens = read(success(**members)).tokens
    assert tokens is not None
    assert (life, assumed) == (tokens.expires_in, tokens.lifetime_assumed)


@pytest.mark.parametrize(
    ("members", "reply_scopes", "claimed", "granted"),
    [
        ({}, None, None, None),
        ({"scope": "read"}, {"read"}, None, {"read"}),
        ({"scope": ""}, set(), None, set()),
        ({"scope": ["read", "trade"]}, {"read", "trade"}, None, {"read", "trade"}),
        ({"access_token": jwt(scp=["trade"])}, None, {"trade"}, {"trade"}),
        (
            {"scope": "read", "access_token": jwt(scope="trade", scopes=["x"])},
            {"read"},
            {"trade", "x"},
            {"read", "trade", "x"},
        ),
    ],
)
def test_every_statement_of_scope_counts(
    members: dict[str, object], reply_scopes: set[str] | None, claimed: set[str] | None, granted: set[str] | None
) -> None:
    """Granted is what the reply or the token's own claims state; an unverified claim can only add."""
    tokens = read(success(**members)).tokens
    assert tokens is not None
    assert (reply_scopes, claimed, granted) == (tokens.reply_scopes, tokens.unverified_claim_scopes, tokens.granted)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("999999999999", 3600.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2100 07:00:00 GMT", 3600.0),
        ("Fri, 15 Jan 2027 08:01:00 -0000", 60.0),
        ("soon", None),
        ("²", None),
        ("-3", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Retry-After is read in both its forms, never negative, never for long."""
    reading = read(reply(429, retry_after=value))
    assert (seconds, seconds) == (reading.retry_after, reading.error and reading.error.retry_after)


def test_a_sandbox_is_not_believed_but_its_token_is_saved() -> None:
    """Where a sandbox is refused its access token is not used, its refresh token saved, its refusal no verdict."""
    good = HttpReply(200, JSON | {"aries-sandbox": "1"}, success(refresh_token="rt-2").unverified_body)
    saved, refused = (
        read(good, refuse_sandbox=True),
        read(reply(400, RFC % b"invalid_grant", aries_sandbox="1"), refuse_sandbox=True),
    )
    assert (LANDED, "sandbox", None, True) == (
        saved.outcome,
        saved.cause,
        saved.tokens,
        saved.refresh_token is not None,
    )
    assert (UNKNOWN, "sandbox") == (refused.outcome, refused.cause)
    assert None is read(good).error


def test_a_reply_prints_no_body() -> None:
    """The printed forms of a reply and its reading hold nothing of its body."""
    result = success(refresh_token="rt-SECRET", access_token="at-SECRET")
    assert "SECRET" not in f"{result!r} {read(result)!r}"


def test_only_a_reading_without_tokens_has_a_problem() -> None:
    """Asking a good reading what went wrong is a bug of ours."""
    assert UNAVAILABLE is read(reply(429)).problem().reason
    with pytest.raises(RuntimeError):
        read(success()).problem()
