"""RFC 7636: proof key for code exchange, S256 alone. No I/O."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

METHOD: Final = "S256"
"""The only method there is here: `plain` protects nobody who can be read (§7.2)."""
VERIFIER_BYTES: Final = 32

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def verifier_of(random_bytes: bytes) -> str:
    """Return a code verifier of 32 random bytes: 43 characters (§4.1).

    Raises:
        ValueError: there are fewer or more: a caller of ours passed nonsense.
    """
    if len(random_bytes) != VERIFIER_BYTES:
        msg = f"a code verifier is made from {VERIFIER_BYTES} random bytes"
        raise ValueError(msg)
    return base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()


def derived_verifier(code_verifier: str, occasion: str) -> str:
    """Return a verifier for another request of the same person; of one nothing is learnt about the other."""
    return verifier_of(hmac.digest(code_verifier.encode(), occasion.encode(), "sha256"))


def challenge_of(code_verifier: str) -> str:
    """Return the S256 challenge of a verifier (§4.2)."""
    hashed = hashlib.sha256(code_verifier.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


def is_challenge(text: str) -> bool:
    """Tell whether `text` has the form of an S256 challenge."""
    return _CHALLENGE.fullmatch(text) is not None
