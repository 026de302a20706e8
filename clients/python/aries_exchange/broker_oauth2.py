"""`client.oauth2` through the broker: no secret is in this process, and a grant's handle stands for a refresh token."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from aries_broker import Token
from aries_exchange.broker_authorization import BrokerAuthorization, Connected
from aries_exchange.broker_tokens import EVERY_USE, BrokerTokens
from aries_exchange.direct_login import AuthResponse, Consent, DirectLogin, LoginRequest, MfaResult, asking, refuse
from aries_exchange.errors import AriesAPIError
from aries_exchange.pkce import check_challenge, check_verifier
from aries_exchange.scopes import SCOPES, build_scope
from aries_exchange.token_endpoint import Tokens
from aries_exchange.urls import check_base_url

HANDLE: Final = "broker-grant:"
"""What every handle begins with; it names a grant, and opens nothing."""
MAX_OPEN: Final = 1_000
"""Logins without a browser that are not complete yet; past that the oldest is forgotten."""
_FORBIDDEN: Final = 403


class BrokerOAuth2:
    """The calls with a broker; parameters and errors are documented at `OAuth2`."""

    def __init__(
        self,
        grant: str | None,
        logins: BrokerAuthorization,
        tokens: BrokerTokens,
        login: DirectLogin,
        was_refused: Callable[[str], bool],
    ) -> None:
        """Set it up.

        Args:
            grant: people log in for; None: nobody can.
            logins: the broker's side of a login.
            tokens: the broker's tokens.
            login: the steps without a browser.
            was_refused: tells whether the API refused this access token.
        """
        self._grant = grant
        self._logins = logins
        self._tokens = tokens
        self._login = login
        self._was_refused = was_refused
        self._lock = threading.Lock()
        self._flow_ids: OrderedDict[str, str] = OrderedDict()
        self._scopes: dict[str, Sequence[str]] = {}

    def get_authorization_url(
        self,
        redirect_uri: str,
        scope: Iterable[str] | None = None,
        state: str | None = None,
        code_challenge: str | None = None,
        code_challenge_method: str | None = None,
    ) -> str:
        """Return the broker's page for the person's browser, from which it comes back with a code of the broker's."""
        check_challenge(code_challenge, code_challenge_method)
        return self._logins.start_app(
            self._named_grant(), _checked(scope), redirect_uri, state or "", code_challenge or ""
        )

    def exchange_code(self, code: str, redirect_uri: str, code_verifier: str | None = None) -> Tokens:
        """Let the broker have the code; it keeps the refresh token, and gives an access token."""
        check_verifier(code_verifier)
        with self._lock:
            flow_id = self._flow_ids.pop(code, None)
        if flow_id is None:
            connected = self._logins.complete_app(code, redirect_uri, code_verifier or "")
        else:
            connected = self._logins.complete_direct(flow_id, code, redirect_uri)
        self._scopes[connected.grant] = _sdk_scopes(connected)
        return self._tokens_of(connected.grant)

    def refresh_token(self, refresh_token: str) -> Tokens:
        """Ask the broker for an access token of the grant that this handle names."""
        grant = refresh_token.removeprefix(HANDLE)
        if grant == refresh_token or not grant:
            raise ValueError(f"with a broker refresh_token is a handle, {HANDLE}NAME; a real one does not belong here")
        return self._tokens_of(grant)

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
        """Log a person in without a browser: password and code go to Aries, and the broker gets what comes of it."""
        if code_challenge is not None or code_challenge_method is not None:
            raise ValueError("with a broker the challenge is the broker's own: give no code_challenge")
        start = self._logins.start_direct(self._named_grant(), _checked(scope), redirect_uri)
        request = LoginRequest(
            check_base_url(start.url),
            start.client_id,
            email,
            password,
            start.redirect_uri,
            start.scope,
            start.code_challenge,
        )
        response = self._login.begin(request, asking(consent))
        self._remember(response.session_token or response.authorization_code, start.flow_id)
        return response

    def verify_mfa(self, code: str, session_token: str, *, consent: Consent | None = None) -> MfaResult:
        """Go on with the code from the person's phone."""
        result = self._login.verify(code, session_token, None if consent is None else asking(consent))
        with self._lock:
            flow_id = self._flow_ids.pop(session_token)
        self._remember(result.authorization_code, flow_id)
        return result

    def _named_grant(self) -> str:
        if not self._grant:
            raise ValueError("people log in for a grant: name it by grant= or ARIES_GRANT")
        return self._grant

    def _remember(self, opened_by: str, flow_id: str) -> None:
        with self._lock:
            self._flow_ids[opened_by] = flow_id
            while len(self._flow_ids) > MAX_OPEN:
                self._flow_ids.popitem(last=False)

    def _tokens_of(self, grant: str) -> Tokens:
        token, scopes = self._ask(grant)
        if self._was_refused(token.access_token):
            token = self._tokens.ask(scopes, grant, token.fingerprint)
        return Tokens(
            self._tokens.access_token(token).value,
            HANDLE + grant,
            int(token.lifetime),
            scope=tuple(token.provider_scopes),
        )

    def _ask(self, grant: str) -> tuple[Token, Sequence[str]]:
        """Return a token for every use the grant and the broker's policies allow, and the scopes it was asked with."""
        known = self._scopes.get(grant)
        wanted = [known] if known else [EVERY_USE, *((scope,) for scope in EVERY_USE)]
        refusals: list[AriesAPIError] = []
        for scopes in wanted:
            try:
                token = self._tokens.ask(scopes, grant)
            except AriesAPIError as error:
                refusals.append(error)
                if error.status_code != _FORBIDDEN:
                    break
            else:
                self._scopes[grant] = scopes
                return token, scopes
        raise refusals[0]


def _checked(scope: Iterable[str] | None) -> tuple[str, ...]:
    """Return the SDK's scopes as they are: the broker knows what its grants can have."""
    if scope is None:
        return ()
    listed = scope if isinstance(scope, str) else tuple(scope)
    build_scope(listed)
    return tuple(listed)


def _sdk_scopes(connected: Connected) -> Sequence[str]:
    """Return the SDK's scopes that a grant covers; the wire's own, where it covers none of them as a whole."""
    covered = [scope for scope in EVERY_USE if connected.provider_scopes.issuperset(SCOPES[scope])]
    return covered or sorted(connected.provider_scopes)
