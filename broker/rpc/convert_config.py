"""Configuration: messages to what was written, and stored objects to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

from aries.broker.admin.v1 import config_pb2
from broker.core.config import (
    DEFAULT_ALGORITHMS,
    ClientConfig,
    ConfigFile,
    GrantConfig,
    IssuerConfig,
    LimitConfig,
    PolicyConfig,
    RoleConfig,
    WindowConfig,
)
from broker.core.config_values import Configured
from broker.core.errors import InvalidRequestError
from broker.core.freeze import frozen_reason
from broker.core.models import (
    Client,
    Grant,
    Issuer,
    Kind,
    Limit,
    Origin,
    Policy,
    Provider,
    Window,
)
from broker.core.provider_config import ProviderConfig
from broker.core.secret import Secret
from broker.ports import SecretSource, SecretUnreadableError
from broker.rpc.convert import secret_of

_ORIGINS: Final = {Origin.FILE: config_pb2.ORIGIN_FILE, Origin.RPC: config_pb2.ORIGIN_RPC}
_UNITS: Final = ((1, "s"), (60, "min"), (3600, "h"))


# --- configuration, in -----------------------------------------------------------------------------------------------


def config_file(message: config_pb2.Config) -> ConfigFile:
    """Return a configuration as it was written, nothing about it checked."""
    return ConfigFile(
        revision=message.revision,
        providers=tuple(map(_provider_config, message.providers)),
        clients=tuple(map(_client_config, message.clients)),
        grants=tuple(GrantConfig(item.name, item.client, item.type, tuple(item.scopes)) for item in message.grants),
        policies=tuple(map(_policy_config, message.policies)),
        limits=tuple(map(_limit_config, message.limits)),
        issuers=tuple(map(_issuer_config, message.issuers)),
        roles=tuple(RoleConfig(item.role, tuple(item.callers), item.name) for item in message.roles),
    )


def one_object(message: config_pb2.Object) -> ConfigFile:
    """Return a configuration that holds one object and nothing else.

    Raises:
        InvalidRequestError: there is none.
    """
    match message.WhichOneof("object"):
        case "provider":
            config = config_pb2.Config(providers=[message.provider])
        case "client":
            config = config_pb2.Config(clients=[message.client])
        case "grant":
            config = config_pb2.Config(grants=[message.grant])
        case "policy":
            config = config_pb2.Config(policies=[message.policy])
        case "limit":
            config = config_pb2.Config(limits=[message.limit])
        case "issuer":
            config = config_pb2.Config(issuers=[message.issuer])
        case "role":
            config = config_pb2.Config(roles=[message.role])
        case _:
            raise InvalidRequestError("object: required", fields={"object": "required"})
    config.revision = 1
    return config_file(config)


class UnreadSecret:
    """The SecretSource of a secret that an operator's machine could not read."""

    def read(self) -> Secret:
        """Raise: only whoever applied the file knows why.

        Raises:
            SecretUnreadableError: always.
        """
        raise SecretUnreadableError("it could not be read where the file was applied")


def first_secrets(messages: Sequence[config_pb2.ClientSecret]) -> dict[str, Secret | SecretSource]:
    """Return first secrets by client name.

    Raises:
        InvalidRequestError: one is empty, too long, or a client's second.
    """
    found: dict[str, Secret | SecretSource] = {}
    for index, message in enumerate(messages):
        path = f"first_secrets[{index}]"
        if message.client in found:
            raise InvalidRequestError("a client has two first secrets", fields={f"{path}.client": "stands there twice"})
        found[message.client] = UnreadSecret() if message.unread else secret_of(message.secret, f"{path}.secret")
    return found


def kind_of(text: str) -> Kind:
    """Return the kind an operator named.

    Raises:
        InvalidRequestError: there is no such kind.
    """
    try:
        return Kind(text)
    except ValueError:
        problem = f"must be one of {', '.join(Kind)}"
        raise InvalidRequestError(f"kind: {problem}", fields={"kind": problem}) from None


def _provider_config(message: config_pb2.Provider) -> ProviderConfig:
    texts = ("base_url", "issuer", "token_url", "authorize_url", "revocation_url", "token_endpoint_auth")
    words = ("narrowing", "absent_scope", "replay_kind", "connect_login")
    said = {field.name for field, _ in message.ListFields()}  # a number or flag that is set, be it 0 or false
    numbers = ("replay_window", "refresh_reply_deadline", "client_credentials_reply_deadline")
    optional = (*numbers, "refresh_kills_older_access_tokens", "pkce_with_secret")
    return ProviderConfig(
        name=message.name,
        preset=message.preset,
        **{field: getattr(message, field) or None for field in (*texts, *words)},
        **{field: getattr(message, field) if field in said else None for field in optional},
        scopes=_scope_map(message.scopes),
        wire_scopes=tuple(message.wire_scopes) or None,
        api_origins=tuple(message.api_origins) or None,
        endpoint_origins=tuple(message.endpoint_origins),
        resources=tuple(message.resources),
        default_expires_in=message.default_expires_in or None,
        unspent_statuses=tuple(message.unspent_statuses),
        insecure_loopback=message.insecure_loopback,
        login_scopes=tuple(message.login_scopes),
        authorize_parameters=dict(message.authorize_parameters),
    )


def _client_config(message: config_pb2.Client) -> ClientConfig:
    return ClientConfig(
        name=message.name,
        provider=message.provider,
        client_id=message.client_id,
        redirect_uris=tuple(message.redirect_uris),
        direct_login=message.direct_login,
    )


def _scope_map(messages: Sequence[config_pb2.ScopeMapping]) -> Mapping[str, tuple[str, ...]] | None:
    """Return product scope → wire scopes.

    Raises:
        InvalidRequestError: a product scope is mapped twice.
    """
    found = {message.scope: tuple(message.wire_scopes) for message in messages}
    if len(found) < len(messages):
        raise InvalidRequestError("a scope is mapped twice", fields={"scopes": "a scope stands there twice"})
    return found or None


def _policy_config(message: config_pb2.Policy) -> PolicyConfig:
    return PolicyConfig(
        name=message.name,
        callers=tuple(message.callers),
        grants=tuple(message.grants),
        scopes=tuple(message.scopes),
        accept_excess=tuple(message.accept_excess),
        authorize=message.authorize,
        any_subject=message.any_subject,
    )


def _limit_config(message: config_pb2.Limit) -> LimitConfig:
    windows = tuple(WindowConfig(window.rate, window.burst) for window in message.windows)
    return LimitConfig(message.name, message.applies_to, tuple(message.key), windows)


def _issuer_config(message: config_pb2.Issuer) -> IssuerConfig:
    return IssuerConfig(
        name=message.name,
        issuer=message.issuer,
        audience=message.audience,
        jwks_uri=message.jwks_uri or None,
        jwks_file=message.jwks_file or None,
        ca_file=message.ca_file or None,
        token_file=message.token_file or None,
        algorithms=tuple(message.algorithms) or DEFAULT_ALGORITHMS,
        require=dict(message.require),
        extra_audiences=tuple(message.extra_audiences),
    )


# --- configuration, out ----------------------------------------------------------------------------------------------


def object_message(value: Configured) -> config_pb2.Object:  # noqa: PLR0911 - a return for each kind
    """Return a stored object; a provider's defaults and what was discovered stand in it as if they had been written."""
    origin = _ORIGINS[value.origin]
    match value:
        case Provider():
            return config_pb2.Object(provider=_provider(value), origin=origin)
        case Client():
            return config_pb2.Object(client=_client(value), origin=origin)
        case Grant():
            return config_pb2.Object(grant=_grant(value), origin=origin)
        case Policy():
            return config_pb2.Object(policy=_policy(value), origin=origin)
        case Limit():
            return config_pb2.Object(limit=_limit(value), origin=origin)
        case Issuer():
            return config_pb2.Object(issuer=_issuer(value), origin=origin)
        case _:
            role = config_pb2.RoleBinding(role=value.role.value, callers=value.callers, name=value.name)
            return config_pb2.Object(role=role, origin=origin)


def _provider(value: Provider) -> config_pb2.Provider:
    return config_pb2.Provider(
        name=value.name,
        preset=value.preset,
        issuer=value.issuer,
        token_url=value.token_url,
        authorize_url=value.authorize_url or "",
        revocation_url=value.revocation_url or "",
        token_endpoint_auth=value.token_endpoint_auth.value,
        scopes=[config_pb2.ScopeMapping(scope=scope, wire_scopes=wire) for scope, wire in sorted(value.scopes.items())],
        wire_scopes=sorted(value.wire_scopes),
        api_origins=value.api_origins,
        endpoint_origins=value.endpoint_origins,
        resources=value.resources,
        narrowing=value.narrowing.value,
        proved_narrowing=_proved(value),
        absent_scope=value.absent_scope.value,
        default_expires_in=value.default_expires_in,
        replay_window=value.replay_window,
        replay_kind="" if value.replay_kind is None else value.replay_kind.value,
        refresh_kills_older_access_tokens=value.refresh_kills_older_access_tokens,
        refresh_reply_deadline=value.refresh_reply_deadline,
        client_credentials_reply_deadline=value.client_credentials_reply_deadline,
        unspent_statuses=sorted(value.unspent_statuses),
        insecure_loopback=value.insecure_loopback,
        frozen=value.frozen,
        frozen_reason=frozen_reason(value),
        connect_login=value.connect_login or "",
        login_scopes=value.login_scopes,
        authorize_parameters=dict(value.authorize_parameters),
        pkce_with_secret=value.pkce_with_secret,
    )


def _client(value: Client) -> config_pb2.Client:
    return config_pb2.Client(
        name=value.name,
        provider=value.provider,
        client_id=value.client_id,
        redirect_uris=value.redirect_uris,
        direct_login=value.direct_login,
    )


def _proved(value: Provider) -> str:
    """Return what was seen at this token endpoint; what was seen at another one tells nothing."""
    return value.proof.profile.value if value.proof is not None and value.proof.token_url == value.token_url else ""


def _grant(value: Grant) -> config_pb2.Grant:
    return config_pb2.Grant(name=value.name, client=value.client, type=value.type.value, scopes=sorted(value.scopes))


def _policy(value: Policy) -> config_pb2.Policy:
    return config_pb2.Policy(
        name=value.name,
        callers=value.callers,
        grants=value.grants,
        scopes=sorted(value.scopes),
        accept_excess=sorted(value.accept_excess),
        authorize=value.authorize,
        any_subject=value.any_subject,
    )


def _limit(value: Limit) -> config_pb2.Limit:
    windows = [config_pb2.Window(rate=_rate(window), burst=window.burst) for window in value.windows]
    return config_pb2.Limit(name=value.name, applies_to=value.applies_to.value, key=value.key, windows=windows)


def _rate(window: Window) -> str:
    """Return a rate in the smallest unit that makes it a whole number."""
    for seconds, unit in _UNITS:
        if (number := window.rate * seconds).denominator == 1:
            return f"{number.numerator}/{unit}"
    return f"{Fraction(window.rate)}/s"


def _issuer(value: Issuer) -> config_pb2.Issuer:
    return config_pb2.Issuer(
        name=value.name,
        issuer=value.issuer,
        audience=value.audience,
        jwks_uri=value.jwks_uri or "",
        jwks_file=value.jwks_file or "",
        ca_file=value.ca_file or "",
        token_file=value.token_file or "",
        algorithms=value.algorithms,
        require=dict(value.require),
        extra_audiences=value.extra_audiences,
    )
