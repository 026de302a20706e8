"""Ending a grant's tokens at its provider (RFC 7009), and forgetting them.

each refresh token the provider has to hear of, the newest first ▸ each access token that still lives ▸ the grant is
revoked

A provider without a revocation endpoint hears nothing: its tokens are wiped here, and end there by themselves.
"""

from __future__ import annotations

from broker.core import lease
from broker.core.grant_state import GrantState, Hold, KeptToken, to_revoke, was_exchanged
from broker.core.models import Client, Grant, Provider
from broker.core.oauth.rfc7009 import TokenTypeHint
from broker.core.sealing import refresh_token_binding
from broker.core.urls import origin_of
from broker.flows.catalog_view import CatalogView
from broker.flows.end_token import EndToken
from broker.flows.receive import Receive
from broker.ports import AccessTokenStore, Cipher, Clock, GrantStore, SealBrokenError


class RevokeTokens:
    """Tell the provider of a grant's tokens."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        grants: GrantStore,
        access_tokens: AccessTokenStore,
        receive: Receive,
        cipher: Cipher,
        end_token: EndToken,
        clock: Clock,
    ) -> None:
        self._view = view
        self._grants = grants
        self._access_tokens = access_tokens
        self._receive = receive
        self._cipher = cipher
        self._end_token = end_token
        self._clock = clock

    async def __call__(self, grant: Grant, now: int) -> bool:
        """Tell of what has to be told; return False when the provider has to be told again later.

        Args:
            grant: with its tokens.
            now: milliseconds of the store's clock.

        Raises:
            BrokerError: the store is away, or our client has no secret the provider believes.
        """
        client = self._view.catalog.clients.get(grant.client)
        provider = None if client is None else self._view.catalog.providers.get(client.provider)
        if client is None or provider is None:  # removed meanwhile: nothing is known of where to tell
            return False
        for token in to_revoke(grant.state):
            spent = _is_spent(grant.state, token, provider, now)
            if not spent and not await self._told(grant, client, provider, token):
                return False
            await self._grants.apply(grant.id, lease.TokenRevoked(token.fingerprint))
        if grant.state.hold is Hold.REVOKING:
            await self._end_access_tokens(grant, client, provider)
            await self._grants.apply(grant.id, lease.Revoked())
        return True

    async def _told(self, grant: Grant, client: Client, provider: Provider, token: KeptToken) -> bool:
        stored = await self._grants.refresh_token(grant.id, token.fingerprint)
        if stored is None:  # wiped: somebody told
            return True
        try:
            opened = await self._cipher.open(
                stored.sealed,
                refresh_token_binding(grant.id, stored.consent, stored.attempt, origin_of(provider.token_url)),
            )
        except SealBrokenError:  # of an endpoint that was another then: not this provider's to hear of
            return True
        return await self._end_token(client, provider, opened, TokenTypeHint.REFRESH_TOKEN)

    async def _end_access_tokens(self, grant: Grant, client: Client, provider: Provider) -> None:
        """Tell of the access tokens too, once: most providers ended them with the refresh token, and all soon end."""
        read_at = self._clock.boottime()
        for stored in await self._access_tokens.live_access_tokens(grant.id):
            token = await self._receive.open(origin_of(provider.token_url), stored, read_at)
            if token is not None:
                await self._end_token(client, provider, token.access_token, TokenTypeHint.ACCESS_TOKEN)


def _is_spent(state: GrantState, token: KeptToken, provider: Provider, now: int) -> bool:
    """Tell whether a token was exchanged for another and its window, if there is one, is over: it ended there."""
    if token.first_sent_at is None or not was_exchanged(state, token):
        return False
    return token.first_sent_at + (provider.replay_window or 0) * 1000 <= now
