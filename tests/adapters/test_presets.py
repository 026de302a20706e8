"""Providers as the presets resolve them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from broker.adapters.presets import needs_discovery, resolve
from broker.core.errors import ProviderUnavailableError
from broker.core.models import AbsentScope, NarrowingProfile, Origin, Provider, ReplayKind, TokenEndpointAuth
from broker.core.provider_config import ProviderConfig

ISSUER = "https://as.example"


def resolved(config: ProviderConfig, metadata: Mapping[str, object] | None = None) -> Provider:
    """Resolve as for a provider of the file."""
    return resolve(config, metadata, provider_id="p1", origin=Origin.FILE)


def test_aries_by_itself() -> None:
    """The preset knows the production addresses and the mapping of the product scopes."""
    assert Provider(
        id="p1",
        name="aries",
        origin=Origin.FILE,
        preset="aries",
        issuer="https://api.aries.com",
        token_url="https://api.aries.com/v1/oauth2/token",
        authorize_url="https://app.aries.com/oauth2/authorize",
        token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_JSON,
        scopes={
            "read": ("account:information", "order:information", "position:information", "user:information"),
            "trade": ("order:execution",),
            "withdraw": (),
            "admin": (),
        },
        wire_scopes=frozenset(
            {
                "analytics:information",
                "calendar:information",
                "market:information",
                "market:supplemental",
                "options:information",
                "watchlist:information",
                "watchlist:management",
            }
        ),
        api_origins=("https://api.aries.com",),
        narrowing=NarrowingProfile.UNPROVED,
        absent_scope=AbsentScope.AS_ASKED,
        default_expires_in=3600,
        refresh_kills_older_access_tokens=True,
        direct_login_url="https://api.aries.com/v1/oauth2/authorize",
        subject_url="https://api.aries.com/v1/users/me",
    ) == resolved(ProviderConfig("aries", "aries"))


def test_aries_whose_token_endpoint_is_elsewhere() -> None:
    """Neither passwords nor access tokens are sent to an API that is not the token endpoint's."""
    moved = resolved(ProviderConfig("aries", "aries", token_url="https://login.example/token"))
    assert (None, None) == (moved.direct_login_url, moved.subject_url)


@pytest.mark.parametrize(("said", "promised"), [(True, True), (False, False), (None, False), ("true", False)])
def test_who_answers_is_promised_by_metadata(said: object, *, promised: bool) -> None:
    """RFC 9207 §3; anything but true is no promise."""
    metadata = {"token_endpoint": f"{ISSUER}/token", "authorization_response_iss_parameter_supported": said}
    found = resolved(ProviderConfig("as", "generic", issuer=ISSUER), metadata)
    assert promised is found.iss_promised


@pytest.mark.parametrize("preset", ["aries", "generic"])
def test_what_logins_ask_beside_is_kept(preset: str) -> None:
    """As configured; our client's proof goes with a code unless told otherwise."""
    config = ProviderConfig("x", preset, token_url=f"{ISSUER}/token", login_scopes=("openid",))
    asked = {"authorize_parameters": {"prompt": "consent"}, "pkce_with_secret": False, "connect_login": "corp"}
    asking = resolved(replace(config, **asked))  # type: ignore[arg-type]  # names of its fields
    assert (("openid",), {"prompt": "consent"}, False, "corp") == (
        asking.login_scopes,
        asking.authorize_parameters,
        asking.pkce_with_secret,
        asking.connect_login,
    )
    assert (True, None) == (resolved(config).pkce_with_secret, resolved(config).connect_login)


def test_aries_elsewhere() -> None:
    """A base URL moves the token endpoint and the API; the people's page is not guessed."""
    config = ProviderConfig("aries", "aries", base_url="http://127.0.0.1:8090/", insecure_loopback=True)
    provider = resolved(config)
    assert (
        "http://127.0.0.1:8090/v1/oauth2/token",
        None,
        ("http://127.0.0.1:8090",),
        "http://127.0.0.1:8090",
        True,
    ) == (
        provider.token_url,
        provider.authorize_url,
        provider.api_origins,
        provider.issuer,
        provider.insecure_loopback,
    )


@pytest.mark.parametrize("preset", ["aries", "generic"])
def test_the_configuration_wins(preset: str) -> None:
    """What the configuration says replaces the preset's; of the scope map, only the scopes it names."""
    provider = resolved(
        ProviderConfig(
            "as",
            preset,
            issuer=ISSUER,
            token_url="https://as.example/t",
            authorize_url="https://as.example/a",
            token_endpoint_auth="client_secret_post",
            scopes={"withdraw": ("withdraw",), "trade": ()},
            wire_scopes=("more:information",),
            api_origins=(),
            endpoint_origins=("https://login.example",),
            resources=("urn:api",),
            narrowing="additional",
            absent_scope="refuse",
            default_expires_in=7,
            replay_window=60,
        )
    )
    assert (
        ISSUER,
        "https://as.example/t",
        "https://as.example/a",
        "client_secret_post",
        "additional",
        "refuse",
        7,
        60,
    ) == (
        provider.issuer,
        provider.token_url,
        provider.authorize_url,
        provider.token_endpoint_auth,
        provider.narrowing,
        provider.absent_scope,
        provider.default_expires_in,
        provider.replay_window,
    )
    assert (("withdraw",), (), True, (), ("https://login.example",), ("urn:api",)) == (
        provider.scopes["withdraw"],
        provider.scopes["trade"],
        "more:information" in provider.wire_scopes,
        provider.api_origins,
        provider.endpoint_origins,
        provider.resources,
    )
    assert provider.scopes["read"]


def test_generic_from_metadata() -> None:
    """A generic provider's endpoints come from its metadata; product scopes go out under their own names."""
    config = ProviderConfig("as", "generic", issuer=ISSUER, base_url="https://api.example/v1")
    metadata = {"token_endpoint": "https://as.example/t", "authorization_endpoint": "https://as.example/a"}
    assert ISSUER == needs_discovery(config)
    assert Provider(
        id="p1",
        name="as",
        origin=Origin.FILE,
        preset="generic",
        issuer=ISSUER,
        token_url="https://as.example/t",
        authorize_url="https://as.example/a",
        token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_BASIC,
        scopes={"admin": ("admin",), "read": ("read",), "trade": ("trade",), "withdraw": ("withdraw",)},
        api_origins=("https://api.example",),
        narrowing=NarrowingProfile.UNPROVED,
        absent_scope=AbsentScope.REFUSE,
        default_expires_in=300,
    ) == resolved(config, metadata)


@pytest.mark.parametrize(
    "config",
    [
        ProviderConfig("as", "aries"),
        ProviderConfig("as", "aries", issuer=ISSUER),
        ProviderConfig("as", "generic", token_url="https://as.example/t"),
        ProviderConfig("as", "generic", issuer=ISSUER, token_url="https://as.example/t"),
    ],
)
def test_what_needs_no_discovery(config: ProviderConfig) -> None:
    """With a token endpoint given, or with the preset of Aries, nothing is asked of the network."""
    assert None is needs_discovery(config)
    assert resolved(config).token_url


def test_the_issuer_of_a_bare_token_endpoint_is_its_origin() -> None:
    """A provider without a configured issuer is known by its token endpoint's origin."""
    assert ISSUER == resolved(ProviderConfig("as", "generic", token_url="https://as.example/t")).issuer


@pytest.mark.parametrize("methods", [None, ["private_key_jwt", "client_secret_basic"]])
def test_basic_is_what_metadata_means_by_silence(methods: object) -> None:
    """Without a configured method it is client_secret_basic, where the metadata allows that."""
    metadata = {"token_endpoint": "https://as.example/t", "token_endpoint_auth_methods_supported": methods}
    provider = resolved(ProviderConfig("as", "generic", issuer=ISSUER), metadata)
    assert TokenEndpointAuth.CLIENT_SECRET_BASIC is provider.token_endpoint_auth


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"token_endpoint": None}, "metadata_token_endpoint"),
        ({"token_endpoint": 7}, "metadata_token_endpoint"),
        ({"token_endpoint": "http://as.example/t"}, "metadata_token_endpoint"),
        ({"token_endpoint": "http://127.0.0.1/t"}, "metadata_token_endpoint"),
        ({"authorization_endpoint": "ftp://as.example/a"}, "metadata_authorization_endpoint"),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post"]}, "metadata_auth_methods"),
        ({"token_endpoint_auth_methods_supported": "client_secret_basic"}, "metadata_auth_methods"),
    ],
)
def test_metadata_that_cannot_be_used(change: dict[str, Any], cause: str) -> None:
    """Metadata is checked like configuration, and no method of authentication is tried out."""
    metadata = {"token_endpoint": "https://as.example/t", **change}
    with pytest.raises(ProviderUnavailableError) as raised:
        resolved(ProviderConfig("as", "generic", issuer=ISSUER), metadata)
    assert (cause, {"failure": "malformed"}) == (raised.value.cause, raised.value.metadata)


def test_facts_of_the_refresh() -> None:
    """What is said of a provider's refresh is taken over by either preset; said that nothing is killed, it is not."""
    for preset in ("aries", "generic"):
        said = resolved(
            ProviderConfig(
                "as",
                preset,
                token_url="https://as.example/t",
                revocation_url="https://as.example/r",
                replay_window=60,
                replay_kind="same_token",
                refresh_kills_older_access_tokens=False,
                refresh_reply_deadline=9,
                client_credentials_reply_deadline=8,
                unspent_statuses=(503,),
            )
        )
        assert ("https://as.example/r", 60, ReplayKind.SAME_TOKEN, False, 9, 8, frozenset({503})) == (
            said.revocation_url,
            said.replay_window,
            said.replay_kind,
            said.refresh_kills_older_access_tokens,
            said.refresh_reply_deadline,
            said.client_credentials_reply_deadline,
            said.unspent_statuses,
        )


def test_what_nobody_knows_is_assumed_carefully() -> None:
    """A window without a kind may leave siblings; Aries, of which nothing is documented, may kill older tokens."""
    addressed = [ProviderConfig("as", name, token_url="https://as.example/t") for name in ("aries", "generic")]
    unsaid = list(map(resolved, addressed))
    assert [(True, None), (False, None)] == [
        (provider.refresh_kills_older_access_tokens, provider.replay_kind) for provider in unsaid
    ]
    windowed = resolved(ProviderConfig("as", "generic", token_url="https://as.example/t", replay_window=60))
    assert "siblings" == windowed.replay_kind


def test_the_revocation_endpoint_is_discovered() -> None:
    """Metadata names where tokens are revoked (RFC 8414 §2); what is written goes before it."""
    metadata = {"token_endpoint": "https://as.example/t", "revocation_endpoint": "https://as.example/r"}
    found = resolved(ProviderConfig("as", "generic", issuer=ISSUER), metadata)
    written = resolved(ProviderConfig("as", "generic", issuer=ISSUER, revocation_url="https://as.example/w"), metadata)
    assert ("https://as.example/r", "https://as.example/w") == (found.revocation_url, written.revocation_url)


def test_a_revocation_endpoint_elsewhere_is_not_used() -> None:
    """Our client's secret is meant for the token endpoint's origin alone."""
    metadata = {"token_endpoint": "https://as.example/t", "revocation_endpoint": "https://elsewhere.example/r"}
    listed = ProviderConfig("as", "generic", issuer=ISSUER, endpoint_origins=("https://elsewhere.example",))
    found = resolved(listed, metadata)
    assert None is found.revocation_url
