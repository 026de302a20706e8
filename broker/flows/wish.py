"""A wish resolved to one cache key, and all a redeem needs to know to fulfil it."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from broker.core import scopes
from broker.core.models import AccessTokenKey, Client, Grant, GrantType, Provider
from broker.core.urls import origin_of


@dataclass(frozen=True, slots=True)
class Wish:
    """One scope set of one grant.

    Attributes:
        asked: the wire scopes wanted; grant_scopes: the wire scopes of the grant's own set.
        scope_to_send: the `scope` parameter's scopes, or None where the provider is not to be sent one.
        key: what tokens that fulfil the wish are cached under.
        token_origin: scheme, host and port of the token endpoint.
        asked_by: whose wish it was first, as a printed caller id; empty for the broker's own.
    """

    grant: Grant
    client: Client
    provider: Provider
    asked: frozenset[str]
    grant_scopes: frozenset[str]
    scope_to_send: frozenset[str] | None
    key: AccessTokenKey
    token_origin: str
    asked_by: str = ""

    @property
    def least_attempt(self) -> int:
        """The attempt before which the provider killed the grant's access tokens, as far as is known."""
        return self.grant.state.landed if kills_older(self) else 0


def kills_older(wish: Wish) -> bool:
    """Tell whether a redeem ends the access tokens the grant got before: one scope set at a time can be served."""
    return wish.provider.refresh_kills_older_access_tokens and wish.grant.type is GrantType.REFRESH_TOKEN


def wish_for(  # noqa: PLR0913 - what a wish is made of
    grant: Grant, client: Client, provider: Provider, asked: AbstractSet[str], resource: str = "", asked_by: str = ""
) -> Wish:
    """Return the wish for some wire scopes of a grant.

    Raises:
        ScopeNotGrantedError: this grant cannot serve the set.
    """
    grant_scopes = scopes.expand(grant.scopes, provider)
    wanted = frozenset(asked)
    return Wish(
        grant=grant,
        client=client,
        provider=provider,
        asked=wanted,
        grant_scopes=grant_scopes,
        scope_to_send=scopes.wire_to_send(grant.type, grant_scopes, wanted, narrows=provider.narrows),
        key=AccessTokenKey(
            grant.id, grant.state.epoch, f"{client.id}:{client.client_id}", tuple(sorted(wanted)), resource
        ),
        token_origin=origin_of(provider.token_url),
        asked_by=asked_by,
    )
