"""What goes to a provider with the browser, and what comes back: RFC 6749 §4.1, RFC 7636, RFC 9207."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from broker.core.models import Provider, TokenEndpointAuth
from broker.core.oauth.authorization_request import (
    MAX_CODE,
    app_redirect,
    build_authorization_url,
    issuer_is_right,
    parse_callback,
    scope_parameter,
)
from broker.core.oauth.id_token import subject_of
from broker.core.oauth.rfc7636 import challenge_of, is_challenge, verifier_of
from broker.core.secret import Secret
from tests.core.oauth_values import provider

PROVIDER = replace(provider(TokenEndpointAuth.CLIENT_SECRET_POST), authorize_url="https://id.example/authorize")


def built(of: Provider, **changes: str) -> tuple[str, dict[str, str]]:
    """Return an authorization request's URL without its query, and its parameters."""
    facts = {"client_id": "desk app", "redirect_uri": "https://b/callback/x", "state": "s&1", "code_challenge": "c"}
    url = build_authorization_url(of, scopes=("read", "trade"), **{**facts, **changes})
    return url.partition("?")[0], dict(parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True))


def test_an_authorization_request() -> None:
    """S256 always, scopes in order, everything encoded."""
    assert (
        "https://id.example/authorize",
        {
            "response_type": "code",
            "client_id": "desk app",
            "redirect_uri": "https://b/callback/x",
            "scope": "read trade",
            "state": "s&1",
            "code_challenge": "c",
            "code_challenge_method": "S256",
        },
    ) == built(PROVIDER)


def test_what_the_provider_wants_beside_is_sent() -> None:
    """Its scopes for logins and fixed parameters, and the query its endpoint has; none of them replaces ours."""
    wanting = replace(
        PROVIDER,
        authorize_url="https://id.example/authorize?tenant=a&state=fixed",
        login_scopes=("openid", "read"),
        authorize_parameters={"prompt": "consent"},
    )
    _, parameters = built(wanting)
    assert ("a", "consent", "s&1", "openid read trade") == tuple(
        parameters[name] for name in ("tenant", "prompt", "state", "scope")
    )
    assert "openid read trade" == scope_parameter(wanting, ("trade", "read"))


def test_an_id_token_is_to_repeat_the_nonce() -> None:
    """Where one is wanted."""
    assert "n" == built(PROVIDER, nonce="n")[1]["nonce"]


def test_a_provider_without_an_endpoint_is_a_bug_of_ours() -> None:
    """Flows look before."""
    with pytest.raises(ValueError, match="no authorization endpoint"):
        built(replace(PROVIDER, authorize_url=None))


@pytest.mark.parametrize(
    ("query", "state", "code", "error", "issuer"),
    [
        ({"code": ["c"], "state": ["s"]}, "s", "c", None, None),
        ({"code": ["c"], "state": ["s"], "iss": ["https://id.example"]}, "s", "c", None, "https://id.example"),
        ({"error": ["access_denied"], "state": ["s"]}, "s", None, "access_denied", None),
        ({"error": ["<script>"], "state": ["s"]}, "s", None, "other", None),
        ({"error": ["access_denied", "x"], "state": ["s"]}, "s", None, "other", None),
        ({"error": [""], "state": ["s"]}, "s", None, "other", None),
        ({"code": ["c", "d"], "state": ["s"]}, "s", None, None, None),
        ({"code": ["c"], "state": ["s", "t"]}, "", "c", None, None),
        ({"code": [""], "state": ["s"]}, "s", None, None, None),
        ({"code": ["c\n"], "state": ["s"]}, "s", None, None, None),
        ({"code": ["c" * (MAX_CODE + 1)], "state": ["s"]}, "s", None, None, None),
        ({"code": ["c"], "state": ["s"], "iss": ["a", "b"]}, "s", "c", None, ""),
        ({}, "", None, None, None),
    ],
)
def test_a_callback_is_read(
    query: dict[str, list[str]], state: str, code: str | None, error: str | None, issuer: str | None
) -> None:
    """What stands there twice, or cannot be, is not there; an error that is not known is not repeated."""
    callback = parse_callback(query)
    told = (callback.unverified_state, callback.error, callback.issuer)
    assert (state, error, issuer) == told
    assert code == (None if callback.code is None else callback.code.reveal())


def test_a_callback_prints_neither_code_nor_state() -> None:
    """Both are secrets of a login."""
    printed = repr(parse_callback({"code": ["the-code"], "state": ["the-state"]}))
    assert ("the-code" in printed, "the-state" in printed) == (False, False)


@pytest.mark.parametrize(
    ("promised", "iss", "right"),
    [
        (False, None, True),
        (True, None, False),
        (True, "https://id.example", True),
        (False, "https://id.example", True),
        (False, "https://id.example/", False),
        (False, "https://evil.example", False),
        (True, "", False),
    ],
)
def test_the_issuer_that_answers_is_the_one_asked(promised: bool, iss: str | None, right: bool) -> None:
    """RFC 9207 §2.4: compared as it stands; missed only where it was promised."""
    asked = replace(PROVIDER, issuer="https://id.example", iss_promised=promised)
    callback = parse_callback({"code": ["c"], **({} if iss is None else {"iss": [iss]})})
    assert right is issuer_is_right(callback, asked)


def test_an_apps_answer_joins_its_query() -> None:
    """What the registered URI has of a query stays (RFC 6749 §3.1.2); ours is not doubled."""
    url = app_redirect("https://app.example/cb?tenant=a&code=mine", {"code": "c d", "state": "s"})
    assert "https://app.example/cb?tenant=a&code=c+d&state=s" == url
    assert "com.example.app:/cb?error=x" == app_redirect("com.example.app:/cb", {"error": "x"})


def test_a_challenge_is_the_rfcs() -> None:
    """RFC 7636 appendix B, and the form of a verifier."""
    assert "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" == challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert (43, True) == (len(verifier_of(bytes(32))), is_challenge(challenge_of(verifier_of(bytes(32)))))
    assert [False] * 4 == [is_challenge(text) for text in ("", "plain", "x" * 44, "x" * 42 + "=")]
    with pytest.raises(ValueError, match="32 random bytes"):
        verifier_of(bytes(31))


def id_token(**claims: object) -> Secret:
    """Return an ID token with these claims beside the right ones."""
    members = {"iss": "https://id.example", "aud": "desk", "sub": "ada"} | claims
    body = base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()
    return Secret(f"e30.{body}.c2ln")


@pytest.mark.parametrize(
    ("token", "subject"),
    [
        (id_token(), "ada"),
        (id_token(aud=["other", "desk"]), "ada"),
        (id_token(aud=["other"]), None),
        (id_token(aud="other"), None),
        (id_token(aud=None), None),
        (id_token(iss="https://evil.example"), None),
        (id_token(sub=""), None),
        (id_token(sub=7), None),
        (id_token(sub="a" * 256), None),
        (id_token(sub="a\n"), None),
        (Secret("e30.W10.c2ln"), None),
        (Secret("e30.!.c2ln"), None),
        (Secret("opaque"), None),
    ],
)
def test_whose_an_id_token_is(token: Secret, subject: str | None) -> None:
    """Of this issuer, for this client, and somebody that can be kept; else nobody's."""
    assert subject == subject_of(token, issuer="https://id.example", client_id="desk")
