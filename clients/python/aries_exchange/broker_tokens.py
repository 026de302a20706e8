"""Access tokens through the broker: read for what reads, trade for orders; no secret is in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import grpc

from aries_broker import BrokerError, Client, Token
from aries_exchange.errors import AriesAPIError
from aries_exchange.retries import Repeat
from aries_exchange.scopes import product_scope
from aries_exchange.tokens import AccessToken
from aries_exchange.urls import BASE_URL, check_base_url, origin

EVERY_USE: Final = ("read", "trade")
"""The scopes of all that this package calls."""
_NOT_NARROWED: Final = "SCOPE_NOT_GRANTED"
_LOG_IN_AGAIN: Final = frozenset({"CONSENT_REQUIRED", "GRANT_QUARANTINED"})
_STATUS_CODES: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.FAILED_PRECONDITION: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def translate(error: BrokerError) -> AriesAPIError:
    """Return a refusal of the broker as what an app that calls Aries expects; its cause is the refusal itself."""
    status_code = 401 if error.reason in _LOG_IN_AGAIN else _STATUS_CODES.get(error.status, 500)
    headers = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.3f}"}
    translated = AriesAPIError(status_code, f"broker: {error}", headers)
    translated.__cause__ = error
    return translated


class BrokerTokens:
    """Asks the broker for tokens of one grant."""

    repeat = Repeat.READ

    def __init__(self, client: Client, grant: str | None, base_url: str | None, monotonic: Callable[[], float]) -> None:
        """Set it up.

        Args:
            client: of the broker.
            grant: whose tokens; None: of the one that policy leaves this caller.
            base_url: where the API is; None: where the broker says that the tokens are for.
            monotonic: the clock tokens expire by.
        """
        self._client = client
        self._grant = grant
        self._base_url = base_url
        self._monotonic = monotonic
        self._told_url: str | None = None
        self._is_whole = False

    def base_url(self) -> str:
        """Return where the API is: what this client was told, else what came with the last token."""
        return self._base_url or self._told_url or BASE_URL

    def key(self, scope: str) -> str:
        """Return the SDK's scope that covers this one, or one key for all where tokens cannot be narrowed."""
        return "" if self._is_whole else product_scope(scope)

    def fetch(self, scope: str, refused: AccessToken | None) -> AccessToken:
        """Ask the broker; it is told of the token that the API refused."""
        fingerprint = refused.fingerprint if refused else None
        try:
            wanted = EVERY_USE if self._is_whole else (product_scope(scope),)
            token = self._client.get_token(wanted, self._grant, None, fingerprint)
        except BrokerError as error:
            # A provider that does not narrow serves a person's grant as a whole, or not at all.
            if self._is_whole or error.reason != _NOT_NARROWED or "missing" in error.metadata:
                raise translate(error) from error
        else:
            return self.access_token(token)
        token = self.ask(EVERY_USE, self._grant, fingerprint)
        self._is_whole = True
        return self.access_token(token)

    def ask(self, scopes: Sequence[str], grant: str | None, fingerprint: str | None = None) -> Token:
        """Return a token of a grant with these scopes, and not the one with this fingerprint.

        Raises:
            AriesAPIError: the broker refused.
        """
        try:
            return self._client.get_token(scopes, grant, None, fingerprint)
        except BrokerError as error:
            raise translate(error) from error

    def access_token(self, token: Token) -> AccessToken:
        """Return a token that came just now, with the times it is good for and the place it may be sent to.

        Raises:
            AriesAPIError: it is for another API than the one this client was told of.
        """
        if self._base_url is None and not token.api_origins:
            raise AriesAPIError(403, "the broker names no API that its token is for")
        base_url = check_base_url(self._base_url or token.api_origins[0])
        if origin(base_url) not in {origin(allowed) for allowed in token.api_origins}:
            raise AriesAPIError(403, "the broker's token is for another API than the base URL names: it was not sent")
        self._told_url = base_url
        now = self._monotonic()
        return AccessToken(
            token.access_token, now + token.renew_after, now + token.lifetime, base_url, token.fingerprint
        )
