"""A provider as an operator writes it, before a preset or discovery fills in the rest; and what is wrong with it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from broker.core.models import AbsentScope, NarrowingProfile, ReplayKind, TokenEndpointAuth
from broker.core.oauth.rfc8707 import resource_problem
from broker.core.scopes import PRODUCT_SCOPES, map_problems, word_problem
from broker.core.urls import origin_of

ENDPOINTS: Final = ("token_endpoint", "authorization_endpoint", "revocation_endpoint")
"""What of an authorization server's metadata is used as an address."""

MAX_URL: Final = 2048
MAX_DEFAULT_LIFE: Final = 24 * 3600
MIN_REPLAY_WINDOW: Final = 26
"""Seconds. A window w has a reply deadline of min(60, w/3), a margin of 2 and must outlast a lease of 15 as well."""
MAX_REPLAY_WINDOW: Final = 24 * 3600
MAX_PARAMETERS: Final = 16
MAX_PARAMETER: Final = 512
OUR_PARAMETERS: Final = frozenset(
    {
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "request",
        "request_uri",
        "response_mode",
        "resource",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "code_verifier",
    }
)
"""Parameters that no configuration may set: the broker's own, what would replace it, and what no browser may see."""
_PARAMETER: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

MAX_REPLY_DEADLINE: Final = 60
"""Seconds. A reply that comes later is not read, whatever is in it."""

Found = Iterator[tuple[str, str]]
"""Pairs of a field and what is wrong with it; never its value."""


class Preset(StrEnum):
    """Which provider's peculiarities fill in what the configuration leaves out."""

    ARIES = "aries"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One provider of the configuration, its values still text; None where it says nothing.

    Attributes:
        scopes: product scope → wire scopes; what it names replaces the preset's, one by one.
        endpoint_origins: origins, beside the issuer's, where discovery may find endpoints.
        resources: what callers may name as `resource` (RFC 8707); none unless listed.
        default_expires_in, replay_window, refresh_reply_deadline, client_credentials_reply_deadline: seconds.
        unspent_statuses: 5xx statuses that are answered before the refresh token is read.
        connect_login: the client with which people sign in before they log in at this provider.
        login_scopes: wire scopes every login asks for beside those of its grant.
        authorize_parameters: further fixed parameters of an authorization request.
        pkce_with_secret: a code is exchanged with our client's proof beside the code verifier.
    """

    name: str
    preset: str
    base_url: str | None = None
    issuer: str | None = None
    token_url: str | None = None
    authorize_url: str | None = None
    revocation_url: str | None = None
    token_endpoint_auth: str | None = None
    scopes: Mapping[str, tuple[str, ...]] | None = None
    wire_scopes: tuple[str, ...] | None = None
    api_origins: tuple[str, ...] | None = None
    endpoint_origins: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    narrowing: str | None = None
    absent_scope: str | None = None
    default_expires_in: int | None = None
    replay_window: int | None = None
    replay_kind: str | None = None
    refresh_kills_older_access_tokens: bool | None = None
    refresh_reply_deadline: int | None = None
    client_credentials_reply_deadline: int | None = None
    unspent_statuses: tuple[int, ...] = ()
    insecure_loopback: bool = False
    connect_login: str | None = None
    login_scopes: tuple[str, ...] = ()
    authorize_parameters: Mapping[str, str] = field(default_factory=dict)
    pkce_with_secret: bool | None = None


def validate(config: ProviderConfig) -> list[tuple[str, str]]:
    """Return everything wrong with a provider, as pairs of a field and a message; nothing to be said of its name."""
    return [*_choices(config), *_urls(config), *_needs(config), *_scopes(config), *_login(config), *_numbers(config)]


def replay_kind(config: ProviderConfig) -> ReplayKind | None:
    """Return what a replay brings, by default the kind that leaves more behind; None without a window."""
    return None if config.replay_window is None else ReplayKind(config.replay_kind or ReplayKind.SIBLINGS)


def foreign_endpoints(config: ProviderConfig, metadata: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return endpoints that metadata (RFC 8414 §2) names where the configuration allows none, with their origins.

    The issuer vouches for its own origin alone: who can change its metadata must not be able to send our secrets, or
    the browsers of people, to a server of their choice. What is no usable URL is not looked at.
    """
    allowed = {origin_of(config.issuer or ""), *config.endpoint_origins}
    found = {name: metadata.get(name) for name in ENDPOINTS}
    return [
        (name, origin_of(url))
        for name, url in found.items()
        if isinstance(url, str)
        and url_problem(url, insecure_loopback=config.insecure_loopback) is None
        and origin_of(url) not in allowed
    ]


def url_problem(url: str, *, insecure_loopback: bool) -> str | None:
    """Return why the broker may not connect to a URL, or None; https, or http to loopback where that is allowed."""
    if not 0 < len(url) <= MAX_URL or not all("!" <= char <= "~" for char in url):
        return f"must be 1 to {MAX_URL} printable ASCII characters"
    try:
        origin_of(url)
        parts = urlsplit(url)
    except ValueError:
        return "must be an absolute URL, its port from 0 to 65535"
    if parts.username is not None or parts.password is not None:
        return "holds no user name or password"
    if "#" in url:
        return "holds no fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and insecure_loopback and _is_loopback(parts.hostname or "")):
        return None
    return "must be https; http only to loopback, and only with insecure_loopback"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _choices(config: ProviderConfig) -> Found:
    yield from _choice("preset", config.preset, Preset)
    yield from _choice("token_endpoint_auth", config.token_endpoint_auth, TokenEndpointAuth)
    yield from _choice("narrowing", config.narrowing, NarrowingProfile)
    yield from _choice("absent_scope", config.absent_scope, AbsentScope)
    yield from _choice("replay_kind", config.replay_kind, ReplayKind)
    if config.replay_kind is not None and config.replay_window is None:
        yield "replay_kind", "says nothing without a replay_window"


def _choice(field: str, value: str | None, choices: Iterable[StrEnum]) -> Found:
    words = [choice.value for choice in choices]
    if value is not None and value not in words:
        yield field, f"must be one of {', '.join(words)}"


def _urls(config: ProviderConfig) -> Found:
    named = {
        "base_url": config.base_url,
        "issuer": config.issuer,
        "token_url": config.token_url,
        "authorize_url": config.authorize_url,
        "revocation_url": config.revocation_url,
    }
    for name, url in named.items():
        if url is None:
            continue
        wrong = url_problem(url, insecure_loopback=config.insecure_loopback)
        if wrong is None and name in {"base_url", "issuer"} and "?" in url:
            wrong = "holds no query"
        if wrong is not None:
            yield name, wrong
    yield from _origins("api_origins", config.api_origins or (), insecure_loopback=config.insecure_loopback)
    yield from _origins("endpoint_origins", config.endpoint_origins, insecure_loopback=config.insecure_loopback)
    for index, resource in enumerate(config.resources):
        wrong = resource_problem(resource)
        if wrong is not None:
            yield f"resources[{index}]", wrong


def _origins(field: str, origins: Iterable[str], *, insecure_loopback: bool) -> Found:
    for index, origin in enumerate(origins):
        wrong = url_problem(origin, insecure_loopback=insecure_loopback)
        if wrong is None and origin_of(origin) != origin:
            wrong = "must be an origin: https://host[:port] in lower case, without a default port or a path"
        if wrong is not None:
            yield f"{field}[{index}]", wrong


def _needs(config: ProviderConfig) -> Found:
    if config.preset != Preset.GENERIC or config.issuer is not None:
        return
    if config.token_url is None:
        yield "issuer", "is needed, or a token_url"
    if config.token_endpoint_auth == TokenEndpointAuth.PRIVATE_KEY_JWT:
        yield "issuer", "is needed for private_key_jwt: it is the audience of the assertions"


def _scopes(config: ProviderConfig) -> Found:
    yield from map_problems(config.scopes or {}, config.wire_scopes or ())


def _login(config: ProviderConfig) -> Found:
    for index, scope in enumerate(config.login_scopes):
        if wrong := word_problem(scope):
            yield f"login_scopes[{index}]", wrong
        elif scope in PRODUCT_SCOPES:
            yield f"login_scopes[{index}]", "a product scope is asked for by grants"
    if len(config.authorize_parameters) > MAX_PARAMETERS:
        yield "authorize_parameters", f"at most {MAX_PARAMETERS} are allowed"
    for name, value in config.authorize_parameters.items():
        if not _PARAMETER.fullmatch(name):
            yield (
                f"authorize_parameters.{name}",
                "a name has lower-case letters, digits and _, and begins with a letter",
            )
        elif name in OUR_PARAMETERS:
            yield f"authorize_parameters.{name}", "the broker sets this itself"
        if not all(" " <= char <= "~" for char in value) or len(value) > MAX_PARAMETER:
            yield f"authorize_parameters.{name}", f"a value has at most {MAX_PARAMETER} printable ASCII characters"


def _numbers(config: ProviderConfig) -> Found:
    if config.default_expires_in is not None and not 1 <= config.default_expires_in <= MAX_DEFAULT_LIFE:
        yield "default_expires_in", f"must be 1 to {MAX_DEFAULT_LIFE} seconds"
    if config.replay_window is not None and not MIN_REPLAY_WINDOW <= config.replay_window <= MAX_REPLAY_WINDOW:
        yield (
            "replay_window",
            f"must be {MIN_REPLAY_WINDOW} to {MAX_REPLAY_WINDOW} seconds: shorter cannot be used safely",
        )
    for name in ("refresh_reply_deadline", "client_credentials_reply_deadline"):
        seconds = getattr(config, name)
        if seconds is not None and not 1 <= seconds <= MAX_REPLY_DEADLINE:
            yield name, f"must be 1 to {MAX_REPLY_DEADLINE} seconds"
    for index, status in enumerate(config.unspent_statuses):
        if not 500 <= status <= 599:  # noqa: PLR2004 - RFC 9110 §15.6
            yield f"unspent_statuses[{index}]", "must be a server error, 500 to 599: what others mean is known"
