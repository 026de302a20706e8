"""Whether the objects of a configuration fit together, and with the objects that stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from broker.core import scopes
from broker.core.config import ConfigFile, GrantConfig, PolicyConfig, Problem, name_of, sections
from broker.core.identity import RESERVED_KINDS
from broker.core.models import Catalog, Grant, Kind, Provider
from broker.core.provider_config import Preset

UNKNOWN = "there is no {kind} called {name!r}"


@dataclass(frozen=True, slots=True)
class Staying:
    """The objects a change leaves alone.

    Attributes:
        grants: by name; at least those a name in the configuration may collide with, or that may need a client of it.
    """

    catalog: Catalog = field(default_factory=Catalog)
    grants: Mapping[str, Grant] = field(default_factory=dict)

    def names(self) -> Mapping[Kind, frozenset[str]]:
        """Return the names taken, by kind."""
        return {
            Kind.PROVIDER: frozenset(self.catalog.providers),
            Kind.CLIENT: frozenset(self.catalog.clients),
            Kind.GRANT: frozenset(self.grants),
            Kind.POLICY: frozenset(item.name for item in self.catalog.policies),
            Kind.LIMIT: frozenset(item.name for item in self.catalog.limits),
            Kind.ISSUER: frozenset(item.name for item in self.catalog.issuers),
            Kind.ROLE: frozenset(item.name for item in self.catalog.roles),
        }


def problems(config: ConfigFile, staying: Staying) -> list[Problem]:
    """Return every name that is taken twice or leads nowhere."""
    return [
        *_names(config, staying),
        *(problem for _, problem in _references(config, staying)),
        *_issuers(config, staying),
        *_sign_ins(config, staying),
        *_needed(config, staying),
    ]


def problems_within(config: ConfigFile, whole: Collection[Kind], resolved: Mapping[str, Provider]) -> list[Problem]:
    """Return what does not fit together in a file that is refused whatever is stored.

    Args:
        config: what could be read of it.
        whole: kinds whose names are all known; a name of another kind may stand where nothing could be read.
        resolved: the configuration's providers, by name, as far as their scopes are known.
    """
    nothing = Staying()
    missing = [problem for kind, problem in _references(config, nothing) if kind in whole]
    missing += scope_problems(config, nothing, resolved, all_known=Kind.PROVIDER in whole)
    told = [Problem(one.field, f"{one.message} in this file") for one in missing]
    return [*_names(config, nothing), *told, *_issuers(config, nothing)]


def _names(config: ConfigFile, staying: Staying) -> Iterator[Problem]:
    taken = staying.names()
    for kind, (section, items) in sections(config).items():
        seen: set[str] = set()
        for index, item in enumerate(items):
            name, path = name_of(item), f"{section}[{index}].name"
            if name in seen:
                more = "; two bindings of one role need names" if kind is Kind.ROLE else ""
                yield Problem(path, f"{name!r} stands there twice{more}")
            seen.add(name)
            if name in taken[kind]:
                yield Problem(
                    path,
                    f"the {kind} {name!r} exists already, made by RPC or detached from the file: remove one of the two",
                )


def _references(config: ConfigFile, staying: Staying) -> Iterator[tuple[Kind, Problem]]:
    """Return names that lead nowhere, each with the kind of what is missing."""
    providers = {item.name for item in config.providers} | set(staying.catalog.providers)
    clients = {item.name for item in config.clients} | set(staying.catalog.clients)
    kinds = _caller_kinds(config, staying)
    for index, client in enumerate(config.clients):
        if client.provider not in providers:
            yield _missing(Kind.PROVIDER, f"clients[{index}].provider", client.provider)
    for index, grant in enumerate(config.grants):
        if grant.client not in clients:
            yield _missing(Kind.CLIENT, f"grants[{index}].client", grant.client)
    for index, provider in enumerate(config.providers):
        if provider.connect_login is not None and provider.connect_login not in clients:
            yield _missing(Kind.CLIENT, f"providers[{index}].connect_login", provider.connect_login)
    callers = {f"policies[{index}]": policy.callers for index, policy in enumerate(config.policies)}
    callers |= {f"roles[{index}]": binding.callers for index, binding in enumerate(config.roles)}
    for path, patterns in callers.items():
        for number, pattern in enumerate(patterns):
            kind = pattern.partition(":")[0]
            if ":" in pattern and kind not in kinds:
                yield _missing(Kind.ISSUER, f"{path}.callers[{number}]", kind)


def _missing(kind: Kind, path: str, name: str) -> tuple[Kind, Problem]:
    return kind, Problem(path, UNKNOWN.format(kind=kind, name=name))


def _caller_kinds(config: ConfigFile, staying: Staying) -> frozenset[str]:
    issuers = {item.name for item in config.issuers} | {item.name for item in staying.catalog.issuers}
    return RESERVED_KINDS | issuers


def _issuers(config: ConfigFile, staying: Staying) -> Iterator[Problem]:
    named = {item.issuer: item.name for item in staying.catalog.issuers}
    for index, issuer in enumerate(config.issuers):
        if named.get(issuer.issuer, issuer.name) != issuer.name:
            yield Problem(f"issuers[{index}].issuer", f"the issuer {named[issuer.issuer]!r} has the same `iss`")
        named.setdefault(issuer.issuer, issuer.name)


def _sign_ins(config: ConfigFile, staying: Staying) -> Iterator[Problem]:
    """Tell of providers whose people would have to sign in where nobody can."""
    places = {client.name: client.provider for client in staying.catalog.clients.values()}
    places |= {client.name: client.provider for client in config.clients}
    presets = {name: provider.preset for name, provider in staying.catalog.providers.items()}
    presets |= {provider.name: provider.preset for provider in config.providers}
    wanted = {f"providers[{index}].connect_login": item for index, item in enumerate(config.providers)}
    demanding = [(path, item.name, item.connect_login) for path, item in wanted.items()]
    demanding += [("clients", item.name, item.connect_login) for item in staying.catalog.providers.values()]
    for path, name, connect_login in demanding:
        place = places.get(connect_login or "")
        if place == name:
            told = "people sign in where they are known already"
            yield Problem(path, f"the client {connect_login!r} is one of the provider {name!r} itself: {told}")
        elif place is not None and presets.get(place) == Preset.ARIES:
            yield Problem(
                path, f"nobody signs in with the client {connect_login!r}: {place!r} does not speak OpenID Connect"
            )


def _needed(config: ConfigFile, staying: Staying) -> Iterator[Problem]:
    """Tell what objects that stay would miss."""
    providers = {item.name for item in config.providers} | set(staying.catalog.providers)
    clients = {item.name for item in config.clients} | set(staying.catalog.clients)
    kinds = _caller_kinds(config, staying)
    for client in staying.catalog.clients.values():
        if client.provider not in providers:
            yield Problem("providers", f"the client {client.name!r} still needs the provider {client.provider!r}")
    for grant in staying.grants.values():
        if grant.client not in clients:
            yield Problem("clients", f"the grant {grant.name!r} still needs the client {grant.client!r}")
    for provider in staying.catalog.providers.values():
        if provider.connect_login is not None and provider.connect_login not in clients:
            yield Problem(
                "clients", f"the provider {provider.name!r} still needs the client {provider.connect_login!r}"
            )
    for what, bindings in (("policy", staying.catalog.policies), ("role binding", staying.catalog.roles)):
        for binding in bindings:
            for kind in sorted({pattern.partition(":")[0] for pattern in binding.callers} - kinds):
                yield Problem("issuers", f"the {what} {binding.name!r} still needs the issuer {kind!r}")


# --- scopes, once the providers are known ----------------------------------------------------------------------------


def scope_problems(
    config: ConfigFile, staying: Staying, resolved: Mapping[str, Provider], *, all_known: bool = True
) -> list[Problem]:
    """Return every scope that its provider does not have, or that a login of its must not ask for beside a grant's.

    Args:
        config: what is wanted.
        staying: the objects a change leaves alone.
        resolved: the configuration's providers, by name, as far as their scopes are known.
        all_known: there are no providers but these; a policy's scope may be one of a provider that is not known.
    """
    all_known = all_known and all(item.name in resolved for item in config.providers)
    providers = {**staying.catalog.providers, **resolved}
    usable = {name: _usable(provider) for name, provider in providers.items()}
    clients = {client.name: client.provider for client in staying.catalog.clients.values()}
    clients |= {client.name: client.provider for client in config.clients}
    found: list[Problem] = []
    for index, item in enumerate(config.providers):
        if item.name in resolved:
            found += _login_scopes(f"providers[{index}]", item.login_scopes, resolved[item.name])
    for index, grant in enumerate(config.grants):
        provider = clients.get(grant.client, "")
        if provider in usable:
            found += _grant_scopes(f"grants[{index}]", grant, provider, usable[provider])
    known = scopes.PRODUCT_SCOPES.union(*map(scopes.known_wire, providers.values())) if all_known else None
    never = frozenset[str]().union(*(scopes.expand(scopes.NEVER_EXCESS, each) for each in providers.values()))
    for index, policy in enumerate(config.policies):
        found += _policy_scopes(f"policies[{index}]", policy, known, never - scopes.NEVER_EXCESS)
    return found


def _usable(provider: Provider) -> frozenset[str]:
    """Return the scopes that stand for something at a provider: those which `scopes.expand` finds wire scopes for."""
    products = {product for product in scopes.PRODUCT_SCOPES if provider.scopes.get(product)}
    return (scopes.known_wire(provider) - scopes.PRODUCT_SCOPES) | products


def _login_scopes(path: str, login_scopes: Iterable[str], provider: Provider) -> Iterator[Problem]:
    """Tell what every login of the provider would bring although no policy allows it: a login scope is no excess."""
    mapped = {word: product for product, words in sorted(provider.scopes.items()) for word in words}
    for index, scope in enumerate(login_scopes):
        if scope in mapped and scope not in scopes.PRODUCT_SCOPES:
            yield Problem(
                f"{path}.login_scopes[{index}]", f"{scope!r} is a scope of {mapped[scope]}: grants ask for it"
            )


def _grant_scopes(path: str, grant: GrantConfig, provider: str, usable: frozenset[str]) -> Iterator[Problem]:
    for index, scope in enumerate(grant.scopes):
        if scope not in usable:
            yield Problem(f"{path}.scopes[{index}]", f"the provider {provider!r} maps no scope to {scope!r}")


def _policy_scopes(
    path: str, policy: PolicyConfig, known: frozenset[str] | None, never: frozenset[str]
) -> Iterator[Problem]:
    if known is not None:
        yield from _unknown(f"{path}.scopes", policy.scopes, known)
        yield from _unknown(f"{path}.accept_excess", policy.accept_excess, known)
    for index, scope in enumerate(policy.accept_excess):
        if scope in never:
            yield Problem(f"{path}.accept_excess[{index}]", f"{scope!r} is a scope of withdraw or admin: never unasked")


def _unknown(path: str, words: Iterable[str], known: frozenset[str]) -> Iterator[Problem]:
    for index, scope in enumerate(words):
        if scope not in known:
            yield Problem(f"{path}[{index}]", f"no provider has the scope {scope!r}")
