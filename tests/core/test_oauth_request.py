"""Token requests as they go over the wire."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, unquote_plus

import pytest

from broker.core.models import TokenEndpointAuth
from broker.core.oauth.rfc6749 import (
    ClientCredentials,
    ClientProof,
    HttpRequest,
    RefreshToken,
    build_token_request,
)
from broker.core.oauth.rfc7523 import client_assertion_claims
from broker.core.secret import Secret
from tests.core.oauth_values import CLIENT, NOW, PROVIDER, provider

SECRET = Secret("s:e c&r=é%t")
READ = ClientCredentials(frozenset({"trade", "read"}))


def build(
    grant: ClientCredentials | RefreshToken,
    method: TokenEndpointAuth = TokenEndpointAuth.CLIENT_SECRET_POST,
    secret: Secret | None = SECRET,
    assertion: str | None = None,
) -> HttpRequest:
    """Build the request for a provider with this method."""
    proof = ClientProof(method, CLIENT.client_id, secret, assertion)
    return build_token_request(provider(token_endpoint_auth=method), grant, proof)


def form(body: bytes) -> dict[str, str]:
    """Return the members of a form body, each of which must be there once."""
    members = parse_qs(body.decode(), strict_parsing=True)
    assert [1] * len(members) == [len(values) for values in members.values()]
    return {name: values[0] for name, values in members.items()}


def test_basic_urlencodes_both_halves() -> None:
    """client_secret_basic form-urlencodes id and secret before joining them (RFC 6749 §2.3.1)."""
    request = build(READ, TokenEndpointAuth.CLIENT_SECRET_BASIC)
    scheme, _, credentials = request.headers["authorization"].partition(" ")
    halves = base64.b64decode(credentials).decode().split(":")
    assert ("Basic", [CLIENT.client_id, SECRET.reveal()]) == (scheme, [unquote_plus(half) for half in halves])
    assert request.basic_pair == Secret(":".join(halves))
    assert {"grant_type": "client_credentials", "scope": "read trade"} == form(request.body)


def test_post_puts_the_secret_into_the_form() -> None:
    """client_secret_post sends id and secret in the body and nothing in a header."""
    request = build(READ)
    assert request.basic_pair is None
    assert {
        "grant_type": "client_credentials",
        "scope": "read trade",
        "client_id": CLIENT.client_id,
        "client_secret": SECRET.reveal(),
    } == form(request.body)
    assert {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"} == request.headers


def test_json_sends_a_json_object() -> None:
    """client_secret_json sends the same members as a JSON object."""
    grant = RefreshToken(Secret("rt-1"), frozenset({"read"}), "https://api.example")
    request = build(grant, TokenEndpointAuth.CLIENT_SECRET_JSON)
    assert {
        "grant_type": "refresh_token",
        "refresh_token": "rt-1",
        "scope": "read",
        "resource": "https://api.example",
        "client_id": CLIENT.client_id,
        "client_secret": SECRET.reveal(),
    } == json.loads(request.body)
    assert {"accept": "application/json", "content-type": "application/json"} == request.headers


def test_private_key_jwt_sends_the_assertion_and_no_secret() -> None:
    """private_key_jwt sends the assertion; the private key is not looked at."""
    request = build(READ, TokenEndpointAuth.PRIVATE_KEY_JWT, Secret("PRIVATE"), "a.b.c")
    assert {
        "grant_type": "client_credentials",
        "scope": "read trade",
        "client_id": CLIENT.client_id,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "a.b.c",
    } == form(request.body)
    assert b"PRIVATE" not in request.body


def test_a_refresh_without_scopes_sends_no_scope() -> None:
    """A refresh sends `scope` only when told to."""
    request = build(RefreshToken(Secret("rt-1")))
    assert "scope" not in form(request.body)


@pytest.mark.parametrize(
    "grant",
    [ClientCredentials(frozenset()), RefreshToken(Secret("rt-1"), frozenset())],
    ids=["client_credentials", "refresh"],
)
def test_an_empty_scope_set_is_refused(grant: ClientCredentials | RefreshToken) -> None:
    """No request is built whose `scope` would be empty: that may mean everything."""
    with pytest.raises(ValueError, match="without scopes"):
        build(grant)


@pytest.mark.parametrize("method", list(TokenEndpointAuth))
def test_a_missing_credential_is_refused(method: TokenEndpointAuth) -> None:
    """A request is never built unauthenticated."""
    with pytest.raises(ValueError, match="needs"):
        build(READ, method, None)


def test_a_request_prints_no_secret() -> None:
    """The printed form of a request holds its URL only."""
    request = build(READ)
    assert "HttpRequest(url='https://as.example/token')" == repr(request)


def test_assertion_claims() -> None:
    """An assertion is for one audience, the issuer as a string, and lives 60 seconds."""
    assert {
        "iss": CLIENT.client_id,
        "sub": CLIENT.client_id,
        "aud": "https://as.example",
        "jti": "j1",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
    } == client_assertion_claims(PROVIDER, CLIENT, now=NOW + 0.5, jti="j1")
