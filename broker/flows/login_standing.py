"""Whether a login may go on: asked again at every step, since operators may have changed their mind since its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.core import policy, scopes
from broker.core.admins import opens
from broker.core.authorization import Authorization, is_signed_in
from broker.core.identity import Role, parse_caller
from broker.core.models import Catalog, Client, Grant, Provider
from broker.flows.catalog_view import CatalogView
from broker.ports import Clock, GrantStore, KeyStore

OPERATORS: Final = frozenset({Role.ADMIN, Role.OPERATOR})
"""Who may have people log in for any grant."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where people sign in: our client, and its provider."""

    client: Client
    provider: Provider


def place_of(provider: Provider, catalog: Catalog) -> Place | None:
    """Return where people sign in before they log in at `provider`, None where nobody has to, or nobody can now."""
    client = catalog.clients.get(provider.connect_login or "")
    there = None if client is None else catalog.providers.get(client.provider)
    if client is None or there is None or there.authorize_url is None or there.frozen:
        return None
    return Place(client, there)


class LoginStanding:
    """Asks; one per process."""

    def __init__(self, *, view: CatalogView, grants: GrantStore, keys: KeyStore, clock: Clock) -> None:
        self._view = view
        self._grants = grants
        self._keys = keys
        self._clock = clock

    async def __call__(
        self, login: Authorization, *, yet_to_sign_in: bool = False
    ) -> tuple[Grant, Client, Provider] | None:
        """Return the grant, client and provider a login began with, as they are now; None when it may not go on.

        Raises:
            StoreUnavailableError: the store is away.
        """
        grant = await self._grants.get_grant(login.facts.grant_id)
        return None if grant is None else await self.of(login, grant, yet_to_sign_in=yet_to_sign_in)

    async def of(
        self, login: Authorization, grant: Grant, *, yet_to_sign_in: bool = False
    ) -> tuple[Grant, Client, Provider] | None:
        """Return a login's grant as it was read just now, with its client and provider, if all is as it began.

        None when the grant has another client, provider or other scopes by now, the provider is frozen, the starter may
        not have people log in for the grant any more or its API key has ended, or people have to sign in first by now,
        at a place where nobody did; the last matters only from the provider on.

        Raises:
            StoreUnavailableError: the store is away.
        """
        standing = _standing(login, grant, self._view.catalog, yet_to_sign_in=yet_to_sign_in)
        return standing if standing is not None and await self._starter_opens(login) else None

    async def _starter_opens(self, login: Authorization) -> bool:
        """Tell whether the starter could still prove who it is, if it does so by a key of ours."""
        starter = parse_caller(login.facts.starter)
        if starter.kind != "key":
            return True
        key = await self._keys.find_key_named(starter.subject)
        return key is not None and opens(key, self._clock.now())


def _standing(
    login: Authorization, grant: Grant, catalog: Catalog, *, yet_to_sign_in: bool
) -> tuple[Grant, Client, Provider] | None:
    facts = login.facts
    client = catalog.clients.get(grant.client)
    provider = None if client is None else catalog.providers.get(client.provider)
    if client is None or provider is None or provider.frozen:
        return None
    if provider.connect_login is not None and not yet_to_sign_in:
        place = place_of(provider, catalog)
        if place is None or not is_signed_in(login, place.provider.issuer):
            return None
    same = (client.id, provider.id) == (facts.client_id, facts.provider_id)
    fits = scopes.expand(grant.scopes, provider) == frozenset(facts.scopes)
    return (grant, client, provider) if same and fits and _may_still(login, grant, provider, catalog) else None


def is_anothers(login: Authorization, grant: Grant) -> bool:
    """Tell whether another person signed in than the one who connected the grant, and nobody allowed that."""
    return bool(login.person) and grant.person not in {None, login.person} and not login.facts.any_subject


def _may_still(login: Authorization, grant: Grant, provider: Provider, catalog: Catalog) -> bool:
    starter = parse_caller(login.facts.starter)
    roles = policy.roles_of(catalog.roles, starter)
    if login.facts.any_subject:
        return Role.ADMIN in roles
    wire = frozenset(login.facts.scopes)
    allowing = policy.may_authorize(catalog.policies, starter, grant.name, wire, provider, roles=roles)
    return bool(OPERATORS & roles) or allowing is not None
