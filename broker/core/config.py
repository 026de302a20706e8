"""A configuration as an operator writes it, before anything about it is believed.

The words are still text: `read` may be misspelt and `10/s` be no rate. `config_rules.problems` says what is wrong, and
`config_values` turns what is right into the words of the model. Secrets are never in here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker.core.models import Kind
from broker.core.provider_config import ProviderConfig

DEFAULT_ALGORITHMS = ("RS256", "ES256")
"""Signature algorithms of an issuer that lists none."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Our registration at a provider."""

    name: str
    provider: str
    client_id: str
    redirect_uris: tuple[str, ...] = ()
    direct_login: bool = False


@dataclass(frozen=True, slots=True)
class GrantConfig:
    """What may be used at a provider."""

    name: str
    client: str
    type: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Callers × grants × scopes."""

    name: str
    callers: tuple[str, ...]
    grants: tuple[str, ...]
    scopes: tuple[str, ...]
    accept_excess: tuple[str, ...] = ()
    authorize: bool = False
    any_subject: bool = False


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """A rate such as `50/s`, `300/min` or `1000/h`, and how many may come at once."""

    rate: str
    burst: int


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """A rate limit rule; every window holds."""

    name: str
    applies_to: str
    key: tuple[str, ...]
    windows: tuple[WindowConfig, ...]


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """Who may vouch for callers with JWTs; absent texts are None."""

    name: str
    issuer: str
    audience: str
    jwks_uri: str | None = None
    jwks_file: str | None = None
    ca_file: str | None = None
    token_file: str | None = None
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    require: Mapping[str, str] = field(default_factory=dict)
    extra_audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoleConfig:
    """Callers that hold a role; a binding without a name is called like its role."""

    role: str
    callers: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A whole configuration; `revision` grows with every change."""

    revision: int
    providers: tuple[ProviderConfig, ...] = ()
    clients: tuple[ClientConfig, ...] = ()
    grants: tuple[GrantConfig, ...] = ()
    policies: tuple[PolicyConfig, ...] = ()
    limits: tuple[LimitConfig, ...] = ()
    issuers: tuple[IssuerConfig, ...] = ()
    roles: tuple[RoleConfig, ...] = ()


ConfigObject = ProviderConfig | ClientConfig | GrantConfig | PolicyConfig | LimitConfig | IssuerConfig | RoleConfig
"""One object of a configuration."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field, or deserves a look.

    Attributes:
        field: path in the configuration, such as `policies[0].callers[1]`.
        message: what is wrong, in words; never a secret.
    """

    field: str
    message: str


def sections(config: ConfigFile) -> Mapping[Kind, tuple[str, Sequence[ConfigObject]]]:
    """Return each kind's section: its name in the file and its objects."""
    return {
        Kind.PROVIDER: ("providers", config.providers),
        Kind.CLIENT: ("clients", config.clients),
        Kind.GRANT: ("grants", config.grants),
        Kind.POLICY: ("policies", config.policies),
        Kind.LIMIT: ("limits", config.limits),
        Kind.ISSUER: ("issuers", config.issuers),
        Kind.ROLE: ("roles", config.roles),
    }


def name_of(item: ConfigObject) -> str:
    """Return an object's name."""
    return item.name or item.role if isinstance(item, RoleConfig) else item.name


def paths_of(config: ConfigFile) -> Mapping[tuple[Kind, str], str]:
    """Return where each object stands, by kind and name; of duplicates the last."""
    return {
        (kind, name_of(item)): f"{section}[{index}]"
        for kind, (section, items) in sections(config).items()
        for index, item in enumerate(items)
    }


def merged(problems: Sequence[Problem]) -> dict[str, str]:
    """Return problems as one text per field."""
    texts: dict[str, list[str]] = {}
    for problem in problems:
        texts.setdefault(problem.field, []).append(problem.message)
    return {path: "; ".join(dict.fromkeys(found)) for path, found in texts.items()}
