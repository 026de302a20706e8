"""Revocation requests, and what their answers mean."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from broker.core.models import TokenEndpointAuth
from broker.core.oauth.rfc6749 import ClientProof, HttpReply, SendFailure
from broker.core.oauth.rfc7009 import TokenTypeHint, Told, build_revocation_request, read_revocation
from broker.core.secret import Secret
from tests.core.oauth_values import CLIENT, reply

URL = "https://as.example/revoke"
CODE = b'{"error": "%s"}'


@pytest.mark.parametrize("method", [TokenEndpointAuth.CLIENT_SECRET_POST, TokenEndpointAuth.CLIENT_SECRET_JSON])
def test_a_token_is_named_in_a_form(method: TokenEndpointAuth) -> None:
    """The token, its kind and our client go out as a form (RFC 7009 §2.1), whatever the token endpoint takes."""
    proof = ClientProof(method, CLIENT.client_id, Secret("s"), None)
    request = build_revocation_request(URL, Secret("rt-1"), TokenTypeHint.REFRESH_TOKEN, proof)
    assert (URL, "application/x-www-form-urlencoded") == (request.url, request.headers["content-type"])
    assert {
        "token": ["rt-1"],
        "token_type_hint": ["refresh_token"],
        "client_id": [CLIENT.client_id],
        "client_secret": ["s"],
    } == parse_qs(request.body.decode())


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (reply(200), Told.REVOKED),
        (reply(204), Told.REVOKED),
        (reply(400, CODE % b"unsupported_token_type"), Told.UNSUPPORTED),
        (reply(503, CODE % b"unsupported_token_type"), Told.LATER),
        (reply(400, CODE % b"invalid_client"), Told.REFUSED_CLIENT),
        (reply(401), Told.REFUSED_CLIENT),
        (reply(400, CODE % b"invalid_request"), Told.LATER),
        (reply(404, b"<html>"), Told.LATER),
        (reply(429), Told.LATER),
        (reply(302, location="https://elsewhere.example"), Told.LATER),
        (SendFailure(sent=False, cause="dns"), Told.LATER),
        (SendFailure(sent=True, cause="timeout"), Told.LATER),
    ],
)
def test_every_answer_has_one_meaning(result: HttpReply | SendFailure, told: Told) -> None:
    """Only a success, and a provider that says it never ends such tokens, ends the telling."""
    assert told == read_revocation(result)
