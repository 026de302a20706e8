"""What a provider's configuration may say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.core.provider_config import OUR_PARAMETERS, ProviderConfig, foreign_endpoints, url_problem, validate

GOOD = ProviderConfig(
    name="as",
    preset="generic",
    base_url="https://api.example/v1",
    issuer="https://as.example/tenant",
    token_url="https://as.example/token?x=1",
    authorize_url="https://as.example/authorize",
    revocation_url="https://as.example/revoke",
    token_endpoint_auth="client_secret_basic",
    scopes={"read": ("read", "account:information"), "withdraw": ()},
    wire_scopes=("market:information",),
    api_origins=("https://api.example",),
    endpoint_origins=("https://login.example", "https://as.example:8443"),
    resources=("https://api.example/v1", "urn:example:api"),
    narrowing="additional",
    absent_scope="refuse",
    default_expires_in=86_400,
    replay_window=26,
    replay_kind="same_token",
    refresh_kills_older_access_tokens=True,
    refresh_reply_deadline=60,
    client_credentials_reply_deadline=1,
    unspent_statuses=(500, 503, 599),
    login_scopes=("openid", "offline_access", "https://as.example/scope"),
    authorize_parameters={"prompt": "consent", "a" * 64: "x" * 512, "acr_values": ""},
    pkce_with_secret=False,
)


def test_a_whole_configuration_is_right() -> None:
    """Everything said rightly has no problem."""
    assert [] == validate(GOOD)


def test_the_least_configuration_is_right() -> None:
    """Aries needs nothing said, a generic provider its issuer or its token endpoint."""
    assert [] == validate(ProviderConfig("aries", "aries"))
    assert [] == validate(ProviderConfig("as", "generic", issuer="https://as.example"))
    assert [] == validate(ProviderConfig("as", "generic", token_url="https://as.example/token"))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"preset": "google"}, ["preset"]),
        ({"token_endpoint_auth": "none"}, ["token_endpoint_auth"]),
        ({"narrowing": "maybe"}, ["narrowing"]),
        ({"absent_scope": "x"}, ["absent_scope"]),
        ({"preset": "generic", "issuer": None, "token_url": None}, ["issuer"]),
        ({"issuer": None, "token_endpoint_auth": "private_key_jwt"}, ["issuer"]),
        ({"token_url": "http://as.example/token"}, ["token_url"]),
        ({"token_url": "http://127.0.0.1:1/token"}, ["token_url"]),
        ({"token_url": "http://as.example/token", "insecure_loopback": True}, ["token_url"]),
        ({"token_url": "http://127.0.0.1:1/token", "insecure_loopback": True}, []),
        ({"base_url": "https://api.example/?a"}, ["base_url"]),
        ({"issuer": "https://as.example?a"}, ["issuer"]),
        ({"authorize_url": "javascript:alert(1)"}, ["authorize_url"]),
        (
            {"api_origins": ("https://api.example", "https://API.example", "https://api.example/x")},
            ["api_origins[1]", "api_origins[2]"],
        ),
        (
            {"resources": ("urn:a", "api", "https://api.example/#part", "")},
            [f"resources[{index}]" for index in (1, 2, 3)],
        ),
        ({"api_origins": ("http://api.example", "https://a.example:443")}, ["api_origins[0]", "api_origins[1]"]),
        (
            {"endpoint_origins": ("https://login.example/", "http://login.example", "https://a.example")},
            ["endpoint_origins[0]", "endpoint_origins[1]"],
        ),
        ({"scopes": {"read": ("trade",)}}, ["scopes.read[0]"]),
        ({"scopes": {"delete": ("x",)}}, ["scopes.delete"]),
        ({"scopes": {"read": ('a"b',)}}, ["scopes.read[0]"]),
        ({"wire_scopes": ("admin",)}, ["wire_scopes[0]"]),
        ({"default_expires_in": 0}, ["default_expires_in"]),
        ({"default_expires_in": 86_401}, ["default_expires_in"]),
        ({"replay_window": 25}, ["replay_window"]),
        ({"replay_window": 86_401}, ["replay_window"]),
        ({"replay_kind": "maybe"}, ["replay_kind"]),
        ({"replay_window": None}, ["replay_kind"]),
        ({"revocation_url": "http://as.example/revoke"}, ["revocation_url"]),
        ({"refresh_reply_deadline": 61}, ["refresh_reply_deadline"]),
        ({"refresh_reply_deadline": 0}, ["refresh_reply_deadline"]),
        ({"client_credentials_reply_deadline": 61}, ["client_credentials_reply_deadline"]),
        ({"unspent_statuses": (503, 499, 600)}, ["unspent_statuses[1]", "unspent_statuses[2]"]),
        (
            {"login_scopes": ("openid", "trade", "Odd", "a b", "", "x" * 129)},
            [f"login_scopes[{n}]" for n in range(1, 6)],
        ),
        *[({"authorize_parameters": {name: "x"}}, [f"authorize_parameters.{name}"]) for name in sorted(OUR_PARAMETERS)],
        *[
            ({"authorize_parameters": {name: "x"}}, [f"authorize_parameters.{name}"])
            for name in ("Prompt", "1st", "_x", "a-b", "a b", "", "a" * 65)
        ],
        *[
            ({"authorize_parameters": {"prompt": value}}, ["authorize_parameters.prompt"])
            for value in ("x" * 513, "a\nb", "\N{LATIN SMALL LETTER E WITH ACUTE}")
        ],
        ({"authorize_parameters": {f"p{n}": "x" for n in range(16)}}, []),
        ({"authorize_parameters": {f"p{n}": "x" for n in range(17)}}, ["authorize_parameters"]),
        ({"preset": "x", "narrowing": "y", "replay_window": 1}, ["preset", "narrowing", "replay_window"]),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], fields: list[str]) -> None:
    """Every problem is told at once, by its field."""
    assert fields == [field for field, _ in validate(replace(GOOD, **change))]


def test_what_the_broker_sends_itself_is_not_configured() -> None:
    """Each parameter of an authorization request that is ours, or that would stand in for ours or widen it."""
    assert {
        *("response_type", "client_id", "redirect_uri", "scope", "state"),  # RFC 6749 section 4.1.1
        *("code_challenge", "code_challenge_method"),  # RFC 7636 section 4.3
        *("nonce", "response_mode", "request", "request_uri", "resource"),
        *("client_secret", "client_assertion", "client_assertion_type", "code_verifier"),  # what no browser may see
    } == OUR_PARAMETERS


@pytest.mark.parametrize(
    ("token_endpoint", "foreign"),
    [
        ("https://as.example/other/token", []),
        ("https://AS.example:443/token", []),
        ("https://login.example/token", []),
        ("https://as.example:8443/token", []),
        ("https://as.example:8444/token", ["https://as.example:8444"]),
        ("https://as.example.evil.example/token", ["https://as.example.evil.example"]),
        ("https://sub.as.example/token", ["https://sub.as.example"]),
        ("http://as.example/token", []),
        (None, []),
        (["https://evil.example"], []),
    ],
)
def test_metadata_speaks_for_the_issuer_s_origin_and_those_listed(token_endpoint: object, foreign: list[str]) -> None:
    """An endpoint elsewhere is foreign; what is no usable URL is refused as such, not here."""
    found = foreign_endpoints(GOOD, {"token_endpoint": token_endpoint, "jwks_uri": "https://evil.example"})
    assert [("token_endpoint", origin) for origin in foreign] == found
    found = foreign_endpoints(GOOD, {"authorization_endpoint": token_endpoint})
    assert [("authorization_endpoint", origin) for origin in foreign] == found


@pytest.mark.parametrize("window", [26, 30, 60, 180, 300, 3600])
def test_an_accepted_replay_window_outlasts_deadline_margin_and_lease(window: int) -> None:
    """A window is only accepted when a send can still be repeated after deadline, margin and lease have passed."""
    assert [] == validate(replace(GOOD, replay_window=window))
    assert window > min(60, window / 3) + 2 + 15


@pytest.mark.parametrize(
    ("url", "insecure_loopback", "right"),
    [
        ("https://as.example:8443/token", False, True),
        ("https://127.0.0.1/token", False, True),
        ("http://localhost:8090/token", True, True),
        ("http://[::1]:8090/token", True, True),
        ("http://127.9.9.9/token", True, True),
        ("http://localhost.example/token", True, False),
        ("http://10.0.0.1/token", True, False),
        ("https://user:pw@as.example/", False, False),
        ("https://user@as.example/", False, False),
        ("https://as.example/#x", False, False),
        ("https://as.example/#", False, False),
        ("https://as.example/a b", False, False),
        ("https://as.exämple/", False, False),
        ("https://as.example:99999/", False, False),
        ("https://" + "a" * 2048, False, False),
        ("//as.example/", False, False),
        ("https:///token", False, False),
        ("ftp://as.example/", True, False),
        ("", False, False),
    ],
)
def test_where_the_broker_may_connect(url: str, insecure_loopback: bool, right: bool) -> None:
    """URLs are https, or plain http to loopback where the file allows it; nothing odd is in them."""
    assert right is (url_problem(url, insecure_loopback=insecure_loopback) is None)
