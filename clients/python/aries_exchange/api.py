"""Calls of the API: each with a token that has the scope it needs, and once more with another one after a 401."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from aries_exchange.errors import AriesAPIError
from aries_exchange.fields import Body
from aries_exchange.retries import Repeat, repeated
from aries_exchange.timing import Timing
from aries_exchange.tokens import NO_BEARER, AccessToken, TokenSource, is_bearer
from aries_exchange.transport import Request, Transport

_UNAUTHORIZED: Final = 401

T = TypeVar("T")


class Api:
    """Sends the calls of one client.

    Attributes:
        bearer: a token the caller set. It is used for every call, and never replaced by one of the client's own, which
            may be another person's.
    """

    def __init__(
        self, transport: Transport, tokens: TokenSource | None, base_url: Callable[[], str], timing: Timing
    ) -> None:
        """Set it up.

        Args:
            transport: sends.
            tokens: where access tokens come from; None: only from the caller.
            base_url: tells where tokens of the caller are sent.
            timing: waiting.
        """
        self.bearer: AccessToken | None = None
        self._refused_bearer = ""
        self._transport = transport
        self._tokens = tokens
        self._base_url = base_url
        self._timing = timing

    def set_bearer(self, token: str | None) -> None:
        """Use this token from now on; None: the client's own again.

        Raises:
            ValueError: it cannot be one.
        """
        if token is not None and not is_bearer(token):
            raise ValueError(NO_BEARER)
        self.bearer = None if token is None else AccessToken(token, None, None, self._base_url())

    def was_refused(self, token: str) -> bool:
        """Tell whether this is the caller's token that the API refused last."""
        return token == self._refused_bearer

    def get(self, path: str, scope: str, parse: Callable[[Body], T], query: Mapping[str, str | int] | None = None) -> T:
        """Read; what may pass is tried again.

        Raises:
            AriesAPIError: it was refused.
        """
        return self._call("GET", path, scope, Repeat.READ, parse, query=query)

    def post(
        self, path: str, scope: str, parse: Callable[[Body], T], body: Mapping[str, Any], *, changes: bool = True
    ) -> T:
        """Send a body; where that changes something it is not sent again by itself.

        Raises:
            AriesAPIError: it was refused.
        """
        return self._call("POST", path, scope, Repeat.NEVER if changes else Repeat.READ, parse, body=body)

    def _call(  # noqa: PLR0913 - the parts of a call
        self,
        method: str,
        path: str,
        scope: str,
        repeat: Repeat,
        parse: Callable[[Body], T],
        *,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> T:
        bearer = self.bearer
        token = bearer or self._own(scope, repeat)

        def send(sent: AccessToken) -> Mapping[str, Any]:
            request = Request(method, sent.base_url + path, body, query, sent.value)
            return repeated(lambda: self._transport.send(request), repeat, self._timing)

        try:
            answered = send(token)
        except AriesAPIError as error:
            if error.status_code != _UNAUTHORIZED:
                raise
            # Whatever the call is, a token that was refused means that it was not carried out: it may be sent again.
            renewed = self._replaced(scope, token, is_own=bearer is None)
            if renewed is None:
                raise
            answered = send(renewed)
        try:
            return parse(answered)
        except ValueError:
            raise AriesAPIError(200, "the answer is not what is documented") from None

    def _own(self, scope: str, repeat: Repeat) -> AccessToken:
        """Return a token of the client's own; an order does not wait for one, since prices move meanwhile."""
        tokens = self._tokens
        if tokens is None:
            raise ValueError("there is no access token: give a client secret, a refresh token or a bearer token")
        allowed = tokens.repeat if repeat is Repeat.READ else Repeat.NEVER
        return repeated(lambda: tokens.get(scope), allowed, self._timing)

    def _replaced(self, scope: str, refused: AccessToken, *, is_own: bool) -> AccessToken | None:
        if is_own and self._tokens is not None:
            return self._tokens.replace(scope, refused)
        self._refused_bearer = refused.value
        return None
