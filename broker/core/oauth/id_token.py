"""The ID token of a code exchange: whose login it was (OpenID Connect Core §3.1.3.7). No I/O."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.core.secret import Secret

SKEW: Final = 60
"""Seconds that two clocks may differ."""
MAX_SUBJECT: Final = 255
"""Longest subject, in characters of ASCII (OpenID Connect Core §2)."""


@dataclass(frozen=True, slots=True)
class AnswerTo:
    """An authentication request by its nonce, and when the answer came: UTC in seconds."""

    nonce: str
    came_at: float


def subject_of(
    unverified_id_token: Secret, *, issuer: str, client_id: str, answer_to: AnswerTo | None = None
) -> str | None:
    """Return the subject of an ID token, or None when it is not this issuer's for this client.

    Where it is to answer an authentication request it must have that one's nonce, must not be over, and must not have
    been made for another party.

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
    ours = claims.get("iss") == issuer and for_us and (answer_to is None or _answers(claims, answer_to, client_id))
    return subject if ours and is_subject(subject) else None


def _answers(claims: Mapping[str, object], answer_to: AnswerTo, client_id: str) -> bool:
    expires = claims.get("exp")
    lasts = isinstance(expires, int | float) and answer_to.came_at < expires + SKEW
    return lasts and claims.get("nonce") == answer_to.nonce and claims.get("azp", client_id) == client_id


def is_subject(value: object) -> bool:
    """Tell whether a provider's word for a person can be kept: 1 to 255 printable ASCII characters, not all blank."""
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_SUBJECT:
        return False
    return all(" " <= char <= "~" for char in value)
