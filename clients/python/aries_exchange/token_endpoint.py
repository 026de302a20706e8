"""Aries' token endpoint: JSON in, tokens out; the client's secret stands in the body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aries_exchange.errors import AriesAPIError
from aries_exchange.tokens import AccessToken, is_bearer, renew_after
from aries_exchange.transport import Request, Transport

TOKEN_PATH: Final = "/v1/oauth2/token"  # noqa: S105 - a path
_SECRETS: Final = ("client_secret", "refresh_token", "code", "code_verifier")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint gave; printing it does not reveal the tokens.

    Attributes:
        access_token: for API calls.
        refresh_token: for another access token; None where there is none. Through a broker a handle of the grant.
        expires_in: seconds the access token lives from now on; None where that was not said.
        refresh_token_expires_in: seconds the refresh token lives; None where that was not said.
        token_type: how the access token is presented.
        scope: the scopes granted, of the wire; empty where they were not said.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in: int | None
    refresh_token_expires_in: int | None = None
    token_type: str = "Bearer"  # noqa: S105 - a type
    scope: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Who the app is at the token endpoint; a public client has no secret."""

    client_id: str
    client_secret: str | None = field(default=None, repr=False)

    def as_fields(self) -> dict[str, str]:
        """Return what goes into a request."""
        secret = {} if self.client_secret is None else {"client_secret": self.client_secret}
        return {"client_id": self.client_id, **secret}


class TokenEndpoint:
    """Asks for tokens in the client's name."""

    def __init__(
        self, transport: Transport, base_url: str, credentials: ClientCredentials, monotonic: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._base_url = base_url
        self._credentials = credentials
        self._monotonic = monotonic

    def client_credentials(self, scope: str) -> Tokens:
        """Ask for a token of the client's own (RFC 6749 section 4.4).

        Raises:
            AriesAPIError: it was refused.
        """
        return self._post({"grant_type": "client_credentials", "scope": scope})

    def exchange(self, code: str, redirect_uri: str, code_verifier: str | None) -> Tokens:
        """Exchange an authorization code (RFC 6749 section 4.1.3, RFC 7636 section 4.5).

        A client that has a secret proves itself by it also where it uses PKCE: the two guard different things.

        Raises:
            AriesAPIError: it was refused.
        """
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if code_verifier is not None:
            fields["code_verifier"] = code_verifier
        return self._post(fields)

    def refresh(self, refresh_token: str) -> Tokens:
        """Spend a refresh token (RFC 6749 section 6).

        Raises:
            AriesAPIError: it was refused, or the answer did not come.
        """
        return self._post({"grant_type": "refresh_token", "refresh_token": refresh_token})

    def access_token(self, tokens: Tokens) -> AccessToken:
        """Return the access token of an answer that came just now, with the times it is good for."""
        if tokens.expires_in is None:
            return AccessToken(tokens.access_token, None, None, self._base_url)
        now = self._monotonic()
        renew_at, expires_at = now + renew_after(tokens.expires_in), now + tokens.expires_in
        return AccessToken(tokens.access_token, renew_at, expires_at, self._base_url)

    def _post(self, fields: Mapping[str, str]) -> Tokens:
        body = {**fields, **self._credentials.as_fields()}
        secrets = tuple(body[name] for name in _SECRETS if name in body)
        return parse_tokens(self._transport.send(Request("POST", self._base_url + TOKEN_PATH, body, secrets=secrets)))


def parse_tokens(body: Mapping[str, Any]) -> Tokens:
    """Return the tokens of a reply.

    Raises:
        AriesAPIError: it holds no access token that could be sent.
    """
    access_token, token_type = body.get("access_token"), body.get("token_type", "Bearer")
    if not isinstance(access_token, str) or not is_bearer(access_token):
        raise AriesAPIError(200, "the token endpoint's answer holds no access token")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        raise AriesAPIError(200, "the token endpoint's answer holds a token of an unknown type")
    refresh_token, scope = body.get("refresh_token"), body.get("scope")
    return Tokens(
        access_token,
        refresh_token if isinstance(refresh_token, str) and refresh_token else None,
        _seconds(body.get("expires_in")),
        _seconds(body.get("refresh_token_expires_in")),
        scope=tuple(scope.split()) if isinstance(scope, str) else (),
    )


def _seconds(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        return None
    return int(value)
