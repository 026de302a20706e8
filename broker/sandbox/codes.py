"""Authorization codes: what one is made for, and the proof that its exchange wants (RFC 7636)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from broker.sandbox.config import ClientSeed
from broker.sandbox.errors import OAuthError
from broker.sandbox.state import AuthorizationCode, State

S256 = "S256"
PLAIN = "plain"


def new_code(  # noqa: PLR0913 - what a code stands for
    state: State,
    *,
    client_id: str,
    user_id: int,
    scopes: frozenset[str],
    redirect_uri: str,
    code_challenge: str | None,
    code_challenge_method: str = S256,
) -> str:
    """Return a new authorization code, remembered."""
    code = secrets.token_urlsafe(24)
    state.codes[code] = AuthorizationCode(
        client_id=client_id,
        user_id=user_id,
        scopes=scopes,
        redirect_uri=redirect_uri,
        code_challenge=code_challenge,
        code_challenge_method=code_challenge_method,
        expires_at=state.now() + state.behaviour.code_seconds,
    )
    return code


def check_verifier(code: AuthorizationCode, code_verifier: str | None, client: ClientSeed) -> None:
    """Check the verifier of an exchange against the code's challenge (RFC 7636 §4.6).

    Raises:
        OAuthError: `invalid_grant`, it does not match, or is wanted and was never announced.
    """
    if code.code_challenge is None:
        if client.is_public:
            raise OAuthError("invalid_grant", "a public client needs PKCE")
        return
    verifier = code_verifier or ""
    challenge = verifier if code.code_challenge_method == PLAIN else _s256(verifier)
    if not hmac.compare_digest(challenge.encode(), code.code_challenge.encode()):
        raise OAuthError("invalid_grant", "code_verifier does not match")


def _s256(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
