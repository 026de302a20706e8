"""Proof Key for Code Exchange (RFC 7636), of which the method `plain` is refused: it shows what it should prove."""

from __future__ import annotations

import re
from typing import Final

METHOD: Final = "S256"
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def check_challenge(code_challenge: str | None, code_challenge_method: str | None) -> None:
    """Make sure that a challenge, if there is one, is of S256; the RFC would take one without a method for plain.

    Raises:
        ValueError: it is not.
    """
    if code_challenge_method not in {None, METHOD}:
        raise ValueError(f"code_challenge_method must be {METHOD}")
    if code_challenge is None and code_challenge_method is not None:
        raise ValueError("code_challenge_method is given without a code_challenge")
    if code_challenge is not None and not _CHALLENGE.fullmatch(code_challenge):
        raise ValueError("code_challenge must be the base64url text of a SHA-256, without padding: 43 characters")


def check_verifier(code_verifier: str | None) -> None:
    """Make sure that a verifier, if there is one, is one.

    Raises:
        ValueError: it is not.
    """
    if code_verifier is not None and not _VERIFIER.fullmatch(code_verifier):
        raise ValueError("code_verifier must have 43 to 128 letters, digits or . _ ~ -")
