"""RFC 7009: telling a provider that a token is not to be used any more, and what its answer means. No I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from broker.core.oauth.error_reply import error_code
from broker.core.oauth.rfc6749 import ClientProof, HttpReply, HttpRequest, SendFailure, authenticated_post
from broker.core.secret import Secret

_UNSUPPORTED: Final = "unsupported_token_type"
_REFUSES_CLIENT: Final = frozenset({"invalid_client", "unauthorized_client"})


class TokenTypeHint(StrEnum):
    """What kind of token it is (§2.1)."""

    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - a kind's name
    ACCESS_TOKEN = "access_token"  # noqa: S105 - a kind's name


class Told(StrEnum):
    """What became of telling.

    revoked: the provider took it, also when it did not know the token (§2.2). unsupported: it never ends tokens of this
    kind. refused_client: it did not believe us. later: it did not answer, or not to this.
    """

    REVOKED = "revoked"
    UNSUPPORTED = "unsupported"
    REFUSED_CLIENT = "refused_client"
    LATER = "later"


def build_revocation_request(url: str, token: Secret, hint: TokenTypeHint, proof: ClientProof) -> HttpRequest:
    """Build the POST to the revocation endpoint, always a form (§2.1), our client authenticated as at the token's.

    Raises:
        ValueError: the credential that the provider's method needs is missing.
    """
    return authenticated_post(url, {"token": token.reveal(), "token_type_hint": hint.value}, proof)


def read_revocation(result: HttpReply | SendFailure) -> Told:
    """Read what came back; never raises. Telling again is always harmless (§2.2)."""
    if isinstance(result, SendFailure):
        return Told.LATER
    if 200 <= result.status < 300:  # noqa: PLR2004 - RFC 9110 §15.3
        return Told.REVOKED
    code = error_code(result, frozenset({_UNSUPPORTED}))
    if result.status == 401 or code in _REFUSES_CLIENT:  # noqa: PLR2004 - RFC 6749 §5.2
        return Told.REFUSED_CLIENT
    if result.status == 400 and code == _UNSUPPORTED:  # noqa: PLR2004 - §2.2.1
        return Told.UNSUPPORTED
    return Told.LATER
