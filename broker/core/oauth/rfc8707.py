"""Resource indicators (RFC 8707)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

MAX_RESOURCE: Final = 512
"""Longest resource, in characters."""


def resource_problem(text: str) -> str | None:
    """Return what is wrong with a resource, or None: it is an absolute URI without a fragment (RFC 8707 §2)."""
    if len(text) > MAX_RESOURCE:
        return f"a resource has at most {MAX_RESOURCE} characters"
    if not all("!" <= char <= "~" and char not in '"<>\\^`{|}' for char in text):
        return "a resource holds no characters outside RFC 3986"
    if "#" in text:
        return "a resource has no fragment"
    try:
        parts = urlsplit(text)
        named = bool(parts.scheme) and bool(parts.netloc or parts.path)
    except ValueError:
        named = False
    return None if named else "a resource is an absolute URI"
