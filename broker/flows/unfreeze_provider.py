"""Letting a provider work again whose endpoints discovery moved: an operator says that this is right.

What is accepted is what discovery named the last time and operators were shown; nobody is asked anew, so nobody can
change it between the look and the word. Secrets stay sealed for the origin they were given for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from broker.core.audit import Action
from broker.core.errors import InvalidRequestError, NotFoundError
from broker.core.freeze import shown_origin, unfrozen
from broker.core.models import Catalog, GrantType, Kind, Provider
from broker.core.urls import origin_of
from broker.flows.stored_config import grants_of, put, settled
from broker.flows.trail import Trail
from broker.ports import CatalogStore, Clock, GrantStore, SecretStore

TOLD: Final = 50
"""Grants named at most of those to be authorized again."""


@dataclass(frozen=True, slots=True)
class Unfrozen:
    """What was accepted, and the commands still to be run, since what was sealed for another origin stays shut."""

    version: int
    token_origin: str
    left_to_do: tuple[str, ...]


class UnfreezeProvider:
    """Unfreeze one provider."""

    def __init__(
        self,
        *,
        catalogs: CatalogStore,
        grants: GrantStore,
        secrets: SecretStore,
        clock: Clock,
        changing: asyncio.Lock,
    ) -> None:
        self._catalogs = catalogs
        self._grants = grants
        self._secrets = secrets
        self._clock = clock
        self._changing = changing

    async def __call__(self, name: str, trail: Trail) -> Unfrozen:
        """Accept the endpoints discovery named the last time.

        Raises:
            NotFoundError: no such provider.
            InvalidRequestError: it is not frozen, or an endpoint lies where the configuration allows none.
            StoreUnavailableError: nothing was changed.
        """
        trail.provider = trail.object_name = name
        trail.object_kind = Kind.PROVIDER.value

        async def once() -> Unfrozen:
            catalog = await self._catalogs.load_catalog()
            before = _checked(catalog, name)
            after = unfrozen(before)
            origin = origin_of(after.token_url)
            left = () if origin == origin_of(before.token_url) else await self._left_to_do(catalog, after)
            detail = f"token endpoint {shown_origin(origin)}"
            event = trail.event(Action.PROVIDER_UNFREEZE, self._clock.now(), detail=detail)
            version = await self._catalogs.write_objects(
                [put(after)], revision=None, event=event, expected_version=catalog.version
            )
            return Unfrozen(version, origin, left)

        async with self._changing:
            return await settled(once)

    async def _left_to_do(self, catalog: Catalog, provider: Provider) -> tuple[str, ...]:
        """Return the commands that bring secrets and refresh tokens to the new origin."""
        clients = [client for client in catalog.clients.values() if client.provider == provider.name]
        left = []
        for client in clients:
            secret = await self._secrets.current_secret(client.id)
            if secret is not None and secret.token_origin != origin_of(provider.token_url):
                left.append(f"aries-broker admin clients add-secret {client.name}")
        found = await grants_of(self._grants, {client.name for client in clients})
        names = [grant.name for grant in found if grant.type is GrantType.REFRESH_TOKEN and grant.state.current]
        left += [f"aries-broker admin grants import {name} --replace" for name in names[:TOLD]]
        if len(names) > TOLD:
            left.append(f"and the same for {len(names) - TOLD} grants more, which answer CONSENT_REQUIRED until then")
        return tuple(left)


def _checked(catalog: Catalog, name: str) -> Provider:
    provider = catalog.providers.get(name)
    if provider is None:
        raise NotFoundError("there is no such provider", metadata={"kind": Kind.PROVIDER.value, "name": name})
    if not provider.frozen:
        problem = "the provider is not frozen"
        raise InvalidRequestError(problem, fields={"name": problem})
    if provider.moved is not None and provider.moved.unlisted:
        origins = ", ".join(shown_origin(origin) for origin in provider.moved.unlisted)
        problem = f"discovery names endpoints {origins}: if that is right, list it in `endpoint_origins` first"
        raise InvalidRequestError(problem, fields={"name": problem})
    return provider
