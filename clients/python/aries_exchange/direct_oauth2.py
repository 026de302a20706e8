"""`client.oauth2` straight at Aries; parameters and errors are documented at `OAuth2`."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

from aries_exchange.direct_login import (
    AUTHORIZE_PATH,
    AuthResponse,
    Consent,
    DirectLogin,
    LoginRequest,
    MfaResult,
    asking,
    refuse,
)
from aries_exchange.lineages import Lineages
from aries_exchange.pkce import METHOD, check_challenge, check_verifier
from aries_exchange.scopes import build_scope
from aries_exchange.token_endpoint import TokenEndpoint, Tokens
from aries_exchange.urls import authorize_url


class DirectOAuth2:
    """The calls without a broker."""

    def __init__(
        self, client_id: str, base_url: str, endpoint: TokenEndpoint, lineages: Lineages, login: DirectLogin
    ) -> None:
        self._client_id = client_id
        self._base_url = base_url
        self._endpoint = endpoint
        self._lineages = lineages
        self._login = login

    def get_authorization_url(
        self,
        redirect_uri: str,
        scope: Iterable[str] | None = None,
        state: str | None = None,
        code_challenge: str | None = None,
        code_challenge_method: str | None = None,
    ) -> str:
        """Return where to send the person's browser; nothing is sent for it."""
        check_challenge(code_challenge, code_challenge_method)
        query = {"response_type": "code", "client_id": self._client_id, "redirect_uri": redirect_uri}
        if scope is not None:
            query["scope"] = build_scope(scope)
        if state is not None:
            query["state"] = state
        if code_challenge is not None:
            query |= {"code_challenge": code_challenge, "code_challenge_method": METHOD}
        return f"{authorize_url(self._base_url)}?{urlencode(query)}"

    def exchange_code(self, code: str, redirect_uri: str, code_verifier: str | None = None) -> Tokens:
        """Return tokens for a code; the client goes on with those it has until it is given these."""
        check_verifier(code_verifier)
        return self._endpoint.exchange(code, redirect_uri, code_verifier)

    def refresh_token(self, refresh_token: str) -> Tokens:
        """Return a new access token; the newest refresh token of the same consent is spent for it."""
        if not refresh_token:
            raise ValueError("refresh_token is empty")
        return self._lineages.refresh(refresh_token)

    def authorize(  # noqa: PLR0913 - each is a parameter of its own
        self,
        email: str,
        password: str,
        redirect_uri: str,
        scope: Iterable[str] | None = None,
        *,
        consent: Consent = refuse,
        code_challenge: str | None = None,
        code_challenge_method: str | None = None,
    ) -> AuthResponse:
        """Log a person in without a browser."""
        check_challenge(code_challenge, code_challenge_method)
        request = LoginRequest(
            self._base_url + AUTHORIZE_PATH,
            self._client_id,
            email,
            password,
            redirect_uri,
            "" if scope is None else build_scope(scope),
            code_challenge,
        )
        return self._login.begin(request, asking(consent))

    def verify_mfa(self, code: str, session_token: str, *, consent: Consent | None = None) -> MfaResult:
        """Go on with the code from the person's phone."""
        return self._login.verify(code, session_token, None if consent is None else asking(consent))
