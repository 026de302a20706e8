"""Where access tokens come from without a broker: the client's own rights, or a refresh token."""

from __future__ import annotations

from aries_exchange.lineages import Lineages
from aries_exchange.retries import Repeat
from aries_exchange.token_endpoint import TokenEndpoint
from aries_exchange.tokens import AccessToken


class ByClient:
    """Fetches a token of the client's own for each scope, since it need not be registered for all of them."""

    repeat = Repeat.READ

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint

    def key(self, scope: str) -> str:
        """Return the scope."""
        return scope

    def fetch(self, scope: str, refused: AccessToken | None) -> AccessToken:
        """Ask the token endpoint."""
        del refused
        return self._endpoint.access_token(self._endpoint.client_credentials(scope))


class ByRefreshToken:
    """Fetches a token with all the scopes of a refresh token."""

    # The first time may have spent it.
    repeat = Repeat.UNSENT

    def __init__(self, endpoint: TokenEndpoint, lineages: Lineages, refresh_token: str) -> None:
        self._endpoint = endpoint
        self._lineages = lineages
        self._refresh_token = refresh_token

    def key(self, scope: str) -> str:
        """Return one key for all: what narrower scopes do to a refresh token is not documented."""
        del scope
        return ""

    def fetch(self, scope: str, refused: AccessToken | None) -> AccessToken:
        """Spend the newest refresh token."""
        del scope, refused
        return self._endpoint.access_token(self._lineages.refresh(self._refresh_token))
