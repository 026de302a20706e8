"""Redeeming a grant's refresh token at once and for its whole set: what an import ends with."""

from __future__ import annotations

from broker.core import scopes
from broker.core.errors import NotFoundError
from broker.flows.catalog_view import CatalogView
from broker.flows.obtain import Obtain
from broker.flows.token_cache import Need
from broker.flows.wish import wish_for
from broker.ports import CatalogStore, GrantStore


class RedeemNow:
    """Redeem and tell whether the provider rotated the token."""

    def __init__(self, *, view: CatalogView, catalog_store: CatalogStore, grants: GrantStore, obtain: Obtain) -> None:
        self._view = view
        self._catalog_store = catalog_store
        self._grants = grants
        self._obtain = obtain

    async def __call__(self, grant_name: str) -> bool:
        """Return whether a new refresh token came and replaced the one there was.

        Raises:
            NotFoundError: no such grant, or its client or provider is gone.
            BrokerError: why there is no token.
        """
        await self._view.catch_up(await self._catalog_store.read_version())
        grant = await self._grants.find_grant(grant_name)
        client = None if grant is None else self._view.catalog.clients.get(grant.client)
        provider = None if client is None else self._view.catalog.providers.get(client.provider)
        if grant is None or client is None or provider is None:
            raise NotFoundError("no such grant", metadata={"kind": "grant", "name": grant_name})
        await self._obtain(wish_for(grant, client, provider, scopes.expand(grant.scopes, provider)), Need())
        after = await self._grants.get_state(grant.id)
        return after is not None and after.state.current != grant.state.current
