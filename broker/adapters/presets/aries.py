"""Aries: a JSON token endpoint under the API's base URL, no discovery, fine-grained wire scopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.core.models import AbsentScope, NarrowingProfile, Origin, Provider, TokenEndpointAuth
from broker.core.provider_config import Preset, ProviderConfig, replay_kind
from broker.core.urls import origin_of

BASE_URL: Final = "https://api.aries.com"
AUTHORIZE_URL: Final = "https://app.aries.com/oauth2/authorize"
TOKEN_PATH: Final = "/v1/oauth2/token"  # noqa: S105 - a path
DIRECT_LOGIN_PATH: Final = "/v1/oauth2/authorize"
SUBJECT_PATH: Final = "/v1/users/me"
EXPIRES_IN: Final = 3600

SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "read": ("account:information", "order:information", "position:information", "user:information"),
    "trade": ("order:execution",),
    # No wire scope is known to cover these: they are refused until an operator maps them.
    "withdraw": (),
    "admin": (),
}
WIRE_SCOPES: Final = frozenset(
    {
        "analytics:information",
        "calendar:information",
        "market:information",
        "market:supplemental",
        "options:information",
        "watchlist:information",
        "watchlist:management",
    }
)


def resolve(
    config: ProviderConfig, metadata: Mapping[str, object] | None, *, provider_id: str, origin: Origin
) -> Provider:
    """Return the provider; Aries publishes no metadata, so there is none to look at."""
    del metadata
    base_url = (config.base_url or BASE_URL).rstrip("/")
    is_production = base_url == BASE_URL
    token_url = config.token_url or base_url + TOKEN_PATH
    at_home = origin_of(token_url) == origin_of(base_url)  # elsewhere neither passwords nor tokens go
    return Provider(
        id=provider_id,
        name=config.name,
        origin=origin,
        preset=Preset.ARIES,
        issuer=config.issuer or base_url,
        token_url=token_url,
        authorize_url=config.authorize_url or (AUTHORIZE_URL if is_production else None),
        revocation_url=config.revocation_url,  # none is documented
        direct_login_url=base_url + DIRECT_LOGIN_PATH if at_home else None,
        subject_url=base_url + SUBJECT_PATH if at_home else None,
        token_endpoint_auth=TokenEndpointAuth(config.token_endpoint_auth or TokenEndpointAuth.CLIENT_SECRET_JSON),
        scopes={**SCOPES, **(config.scopes or {})},
        wire_scopes=WIRE_SCOPES.union(config.wire_scopes or ()),
        api_origins=config.api_origins if config.api_origins is not None else (origin_of(base_url),),
        endpoint_origins=config.endpoint_origins,
        resources=config.resources,
        # What a refresh does with `scope` is not documented, nor whether a reply names the scopes granted.
        narrowing=NarrowingProfile(config.narrowing or NarrowingProfile.UNPROVED),
        absent_scope=AbsentScope(config.absent_scope or AbsentScope.AS_ASKED),
        default_expires_in=config.default_expires_in or EXPIRES_IN,
        # Nor is it what becomes of older access tokens: callers' tokens are not renewed before they have to be.
        refresh_kills_older_access_tokens=config.refresh_kills_older_access_tokens is not False,
        replay_window=config.replay_window,
        replay_kind=replay_kind(config),
        refresh_reply_deadline=config.refresh_reply_deadline,
        client_credentials_reply_deadline=config.client_credentials_reply_deadline,
        unspent_statuses=frozenset(config.unspent_statuses),
        insecure_loopback=config.insecure_loopback,
        connect_login=config.connect_login,
        login_scopes=config.login_scopes,
        authorize_parameters=dict(config.authorize_parameters),
        pkce_with_secret=config.pkce_with_secret is not False,
    )
