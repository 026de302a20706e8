"""The ID token of a code exchange: whose login it was (OpenID Connect Core §3.1.3.7). No I/O."""

from __future__ import annotations

import base64
import json
from typing import Final

from broker.core.secret import Secret

MAX_SUBJECT: Final = 255
"""Longest subject, in characters of ASCII (OpenID Connect Core §2)."""


def subject_of(unverified_id_token: Secret, *, issuer: str, client_id: str, nonce: str | None = None) -> str | None:
    """Return the subject of an ID token, or None when it is not this issuer's for this client.

    With a `nonce` it must also answer the request that had that.

    Its signature is not looked at: it came from the token endpoint itself over TLS, which §3.1.3.7 lets stand for it.
    """
    parts = unverified_id_token.reveal().split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature (RFC 7515 §3.1)
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    audience = claims.get("aud")
    for_us = client_id in audience if isinstance(audience, list) else audience == client_id
    subject = claims.get("sub")
    ours = claims.get("iss") == issuer and for_us and (nonce is None or claims.get("nonce") == nonce)
    return subject if ours and is_subject(subject) else None


def is_subject(value: object) -> bool:
    """Tell whether a provider's word for a person can be kept: 1 to 255 printable ASCII characters."""
    return isinstance(value, str) and 0 < len(value) <= MAX_SUBJECT and all(" " <= char <= "~" for char in value)
