"""A configuration in the words of the model; only for what `config_rules` found nothing wrong with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.core.config import (
    ClientConfig,
    ConfigObject,
    GrantConfig,
    IssuerConfig,
    LimitConfig,
    PolicyConfig,
    RoleConfig,
    WindowConfig,
    name_of,
)
from broker.core.config_rules import parse_rate
from broker.core.identity import Role
from broker.core.models import (
    Catalog,
    Client,
    Grant,
    GrantType,
    Issuer,
    Kind,
    Limit,
    LimitTarget,
    Origin,
    Policy,
    Provider,
    RoleBinding,
    Window,
)

Configured = Provider | Client | Grant | Policy | Limit | Issuer | RoleBinding
"""One object of the model."""

NEW: Final = ""
"""Id of an object that has none yet."""

_KINDS: Final[Mapping[type, Kind]] = {
    Provider: Kind.PROVIDER,
    Client: Kind.CLIENT,
    Grant: Kind.GRANT,
    Policy: Kind.POLICY,
    Limit: Kind.LIMIT,
    Issuer: Kind.ISSUER,
    RoleBinding: Kind.ROLE,
}


def kind_of(value: Configured) -> Kind:
    """Return an object's kind."""
    return _KINDS[type(value)]


def catalog_objects(catalog: Catalog) -> tuple[Configured, ...]:
    """Return every object of a catalogue: all there are but the grants."""
    return (
        *catalog.providers.values(),
        *catalog.clients.values(),
        *catalog.policies,
        *catalog.limits,
        *catalog.issuers,
        *catalog.roles,
    )


def catalog_of(values: tuple[Configured, ...], version: int = 0, revision: int = 0) -> Catalog:
    """Return the catalogue of some objects; grants among them are left out."""
    return Catalog(
        version=version,
        revision=revision,
        providers={value.name: value for value in values if isinstance(value, Provider)},
        clients={value.name: value for value in values if isinstance(value, Client)},
        policies=tuple(value for value in values if isinstance(value, Policy)),
        limits=tuple(value for value in values if isinstance(value, Limit)),
        issuers=tuple(value for value in values if isinstance(value, Issuer)),
        roles=tuple(value for value in values if isinstance(value, RoleBinding)),
    )


def build_object(item: ConfigObject, origin: Origin) -> Configured:
    """Return an object with no id yet.

    Raises:
        TypeError: for a provider: its preset resolves it.
        ValueError: the object was not checked.
    """
    match item:
        case ClientConfig():
            return _client(item, origin)
        case GrantConfig():
            return Grant(NEW, item.name, origin, item.client, GrantType(item.type), frozenset(item.scopes))
        case PolicyConfig():
            return _policy(item, origin)
        case LimitConfig():
            windows = tuple(map(_window, item.windows))
            return Limit(NEW, item.name, origin, LimitTarget(item.applies_to), item.key, windows)
        case IssuerConfig():
            return _issuer(item, origin)
        case RoleConfig():
            return RoleBinding(NEW, name_of(item), origin, Role(item.role), item.callers)
        case _:
            msg = "a provider is resolved by its preset"
            raise TypeError(msg)


def _client(item: ClientConfig, origin: Origin) -> Client:
    return Client(
        id=NEW,
        name=item.name,
        origin=origin,
        provider=item.provider,
        client_id=item.client_id,
        redirect_uris=item.redirect_uris,
        direct_login=item.direct_login,
    )


def _policy(item: PolicyConfig, origin: Origin) -> Policy:
    return Policy(
        id=NEW,
        name=item.name,
        origin=origin,
        callers=item.callers,
        grants=item.grants,
        scopes=frozenset(item.scopes),
        accept_excess=frozenset(item.accept_excess),
        authorize=item.authorize,
        any_subject=item.any_subject,
    )


def _window(item: WindowConfig) -> Window:
    rate = parse_rate(item.rate)
    if rate is None:
        msg = "a rate that was not checked"
        raise ValueError(msg)
    return Window(rate, item.burst)


def _issuer(item: IssuerConfig, origin: Origin) -> Issuer:
    return Issuer(
        id=NEW,
        name=item.name,
        origin=origin,
        issuer=item.issuer,
        audience=item.audience,
        jwks_uri=item.jwks_uri,
        jwks_file=item.jwks_file,
        ca_file=item.ca_file,
        token_file=item.token_file,
        algorithms=item.algorithms,
        require=dict(item.require),
        extra_audiences=item.extra_audiences,
    )
