"""`client.oauth2`: how an app gets tokens of a person who allows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from aries_exchange.direct_login import AuthResponse, Consent, MfaResult, refuse
from aries_exchange.token_endpoint import Tokens


class OAuth2(Protocol):
    """The calls, the same with a broker and without."""

    def get_authorization_url(
        self,
        redirect_uri: str,
        scope: Iterable[str] | None = None,
        state: str | None = None,
        code_challenge: str | None = None,
        code_challenge_method: str | None = None,
    ) -> str:
        """Return where to send the person's browser, which comes back to the redirect URI with a code.

        Args:
            redirect_uri: as it is registered, to the letter.
            scope: what to ask for: read, trade, withdraw, admin, or finer scopes.
            state: comes back with the code; check that it is the one of this browser.
            code_challenge: of PKCE; its verifier goes to `exchange_code`.
            code_challenge_method: S256, which is also meant where it is left out; plain is refused.

        Raises:
            AriesAPIError: the broker refused; without a broker nothing is sent.
            ValueError: an argument cannot be right.
        """
        ...

    def exchange_code(self, code: str, redirect_uri: str, code_verifier: str | None = None) -> Tokens:
        """Return tokens for a code; it is good once.

        Args:
            code: from the redirect, or from a login without a browser.
            redirect_uri: that of the beginning.
            code_verifier: of PKCE, where the beginning had a challenge.

        Raises:
            AriesAPIError: it was refused.
            ValueError: an argument cannot be right.
        """
        ...

    def refresh_token(self, refresh_token: str) -> Tokens:
        """Return a new access token; any refresh token that this client was given or gave for the same consent will do.

        Raises:
            AriesAPIError: it was refused: the person has to log in again.
            ValueError: an argument cannot be right.
        """
        ...

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
        """Log a person in without a browser; the password goes to Aries alone and is not kept.

        Args:
            email: the person's.
            password: the person's.
            redirect_uri: as it is registered, to the letter; nobody is sent there.
            scope: what to ask for, as of `get_authorization_url`.
            consent: shows the person the scopes where Aries wants it, and returns True for a yes. By itself it is a no.
            code_challenge: of PKCE; its verifier goes to `exchange_code`.
            code_challenge_method: S256.

        Raises:
            AriesAPIError: it was refused.
            ConsentRefusedError: the person did not agree.
            ValueError: an argument cannot be right.
        """
        ...

    def verify_mfa(self, code: str, session_token: str, *, consent: Consent | None = None) -> MfaResult:
        """Go on with the code from the person's phone; after a wrong one another may be tried.

        Args:
            code: six digits.
            session_token: of what `authorize` returned.
            consent: in place of the one given to `authorize`.

        Raises:
            AriesAPIError: it was refused.
            ConsentRefusedError: the person did not agree.
            ValueError: this client began no such login.
        """
        ...
