"""Any authorization server that speaks RFC 6749, found by its metadata (RFC 8414, OpenID Connect Discovery)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.core.errors import ProviderUnavailableError
from broker.core.models import AbsentScope, NarrowingProfile, Origin, Provider, TokenEndpointAuth
from broker.core.provider_config import Preset, ProviderConfig, replay_kind, url_problem
from broker.core.scopes import PRODUCT_SCOPES
from broker.core.urls import origin_of

EXPIRES_IN: Final = 300

SCOPES: Final[Mapping[str, tuple[str, ...]]] = {scope: (scope,) for scope in sorted(PRODUCT_SCOPES)}


def resolve(
    config: ProviderConfig, metadata: Mapping[str, object] | None, *, provider_id: str, origin: Origin
) -> Provider:
    """Return the provider; what the configuration leaves out is taken from the metadata.

    Raises:
        ProviderUnavailableError: the metadata has no usable token endpoint (cause `metadata_token_endpoint`), another
            endpoint that cannot be used (`metadata_authorization_endpoint`, `metadata_revocation_endpoint`), or none of
            the authentication methods the broker has to choose without being told (`metadata_auth_methods`).
    """
    found = metadata or {}
    token_url = config.token_url or _endpoint(found, "token_endpoint", config)
    if token_url is None:
        raise _unusable("token_endpoint")
    return Provider(
        id=provider_id,
        name=config.name,
        origin=origin,
        preset=Preset.GENERIC,
        issuer=config.issuer or origin_of(token_url),
        token_url=token_url,
        authorize_url=config.authorize_url or _endpoint(found, "authorization_endpoint", config),
        revocation_url=config.revocation_url or _revocation_url(found, token_url, config),
        iss_promised=found.get("authorization_response_iss_parameter_supported") is True,
        token_endpoint_auth=_token_endpoint_auth(config, found),
        scopes={**SCOPES, **(config.scopes or {})},
        wire_scopes=frozenset(config.wire_scopes or ()),
        api_origins=_api_origins(config),
        endpoint_origins=config.endpoint_origins,
        resources=config.resources,
        narrowing=NarrowingProfile(config.narrowing or NarrowingProfile.UNPROVED),
        absent_scope=AbsentScope(config.absent_scope or AbsentScope.REFUSE),
        default_expires_in=config.default_expires_in or EXPIRES_IN,
        refresh_kills_older_access_tokens=config.refresh_kills_older_access_tokens is True,
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


def _endpoint(metadata: Mapping[str, object], name: str, config: ProviderConfig) -> str | None:
    url = metadata.get(name)
    if url is None:
        return None
    if not isinstance(url, str) or url_problem(url, insecure_loopback=config.insecure_loopback) is not None:
        raise _unusable(name)
    return url


def _revocation_url(metadata: Mapping[str, object], token_url: str, config: ProviderConfig) -> str | None:
    """Return where tokens are ended; an endpoint at another origin is not sent the secret meant for the token's."""
    url = _endpoint(metadata, "revocation_endpoint", config)
    return url if url is not None and origin_of(url) == origin_of(token_url) else None


def _token_endpoint_auth(config: ProviderConfig, metadata: Mapping[str, object]) -> TokenEndpointAuth:
    """Return the pinned method; never found out by trying, which would show the secret in more than one form."""
    if config.token_endpoint_auth is not None:
        return TokenEndpointAuth(config.token_endpoint_auth)
    methods = metadata.get("token_endpoint_auth_methods_supported")
    default = TokenEndpointAuth.CLIENT_SECRET_BASIC  # RFC 8414 §2: what an absent list means
    if methods is None or (isinstance(methods, list) and default.value in methods):
        return default
    raise _unusable("auth_methods")


def _api_origins(config: ProviderConfig) -> tuple[str, ...]:
    if config.api_origins is not None:
        return config.api_origins
    return () if config.base_url is None else (origin_of(config.base_url),)


def _unusable(what: str) -> ProviderUnavailableError:
    public = f"the provider's metadata holds no {what.replace('_', ' ')} the broker can use"
    return ProviderUnavailableError(public, cause=f"metadata_{what}", metadata={"failure": "malformed"})
