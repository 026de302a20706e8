"""Whatever a provider answers, reading it keeps its promises."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.models import GrantType
from broker.core.oauth.causes import Cause
from broker.core.oauth.reply import Outcome
from broker.core.oauth.rfc6749 import HttpReply, SendFailure
from tests.core.oauth_values import JSON, read, reply

MEMBERS = st.sampled_from(
    ["access_token", "token_type", "expires_in", "scope", "error", "codes", "code", "type", "x", "error_description"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        ["Bearer", "3600", "a.eyJzY29wZSI6InJlYWQifQ.b", "invalid_grant", "invalid_client", "read trade"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4),
    max_leaves=8,
)
BODIES = st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode())
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "content-encoding", "retry-after", "aries-sandbox"]),
    st.text(max_size=30) | st.sampled_from(["application/json", "gzip", "7", "Fri, 15 Jan 2027 08:01:00 GMT"]),
)
STATUSES = st.sampled_from([100, 101, 200, 201, 204, 302, 400, 401, 403, 404, 408, 429, 500, 503, 599])
REPLIES = st.builds(HttpReply, STATUSES, HEADERS, BODIES)
RESULTS = REPLIES | st.builds(SendFailure, st.booleans(), st.text(max_size=20), st.none() | REPLIES)
TOKENS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)


@settings(max_examples=400)
@given(RESULTS, st.sampled_from(GrantType), st.booleans())
def test_reading_never_raises_and_says_one_thing(
    result: HttpReply | SendFailure,
    grant_type: GrantType,
    refuse: bool,
) -> None:
    """Any answer has a reading: tokens or an error, a cause of the closed list, and a refusal only by invalid_grant."""
    reading = read(result, grant_type, refuse_sandbox=refuse)
    assert (reading.tokens is None) == (reading.error is not None)
    assert isinstance(reading.cause, Cause)
    assert (reading.cause is Cause.NONE) == (reading.error is None)
    assert reading.outcome is not Outcome.REFUSED or reading.cause is Cause.INVALID_GRANT


@settings(max_examples=200)
@given(STATUSES, MEMBERS, st.sampled_from(GrantType))
def test_nothing_of_the_body_gets_out(status: int, member: str, grant_type: GrantType) -> None:
    """No error, cause or printed form holds a word of the provider's."""
    canary = "canary-7f3a"
    for value in (canary, {member: canary, "code": canary, "type": canary}, [canary]):
        body = json.dumps({member: value, "error_description": canary}).encode()
        reading = read(reply(status, body, retry_after=canary), grant_type)
        error = reading.error
        told = f"{reading!r} {reading.cause}"
        if error is not None:
            told += f"{error.public} {error.cause} {error.metadata} {error.fields} {error!r}"
        assert canary not in told


@settings(max_examples=300)
@given(TOKENS, st.dictionaries(MEMBERS, VALUES, max_size=4), st.dictionaries(MEMBERS, VALUES, max_size=4), st.data())
def test_a_whole_refresh_token_in_a_200_is_always_salvaged(
    token: str, before: dict[str, object], after: dict[str, object], data: st.DataObject
) -> None:
    """As soon as its closing quote has come, a refresh token is saved, wherever the reply breaks off."""
    body = json.dumps({**before, "refresh_token": token, **after}).encode()
    own = json.dumps({"refresh_token": token})[1:-1].encode()
    whole_from = body.rindex(own) + len(own)
    cut = data.draw(st.integers(whole_from, len(body)))
    result = reply(200, body[:cut])
    for reading in (read(result), read(SendFailure(sent=True, cause="reset", partial=result))):
        assert reading.refresh_token is not None
        assert (token, Outcome.LANDED) == (reading.refresh_token.reveal(), reading.outcome)


@settings(max_examples=200)
@given(st.integers(0, 30))
def test_half_a_refresh_token_is_never_salvaged(cut: int) -> None:
    """Before its closing quote a token is not taken."""
    body = b'{"refresh_token":"abcdefghijkl"}'[: min(cut, 30)]
    assert None is read(HttpReply(200, JSON, body)).refresh_token
