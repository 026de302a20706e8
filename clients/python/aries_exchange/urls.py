"""Where secrets may be sent: over TLS, or to this machine."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

BASE_URL: Final = "https://api.aries.com"
AUTHORIZE_URL: Final = "https://app.aries.com/oauth2/authorize"
_AUTHORIZE_PATH: Final = "/oauth2/authorize"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def check_base_url(url: str) -> str:
    """Return a base URL without the slash at its end.

    Raises:
        ValueError: it is none, or secrets would travel in plaintext.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("the base URL must be https://host[:port][/path]")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("the base URL must be https: secrets are not sent in plaintext, but to this machine")
    return url.rstrip("/")


def authorize_url(base_url: str) -> str:
    """Return the page where people log in, which Aries has at another host than its API."""
    return AUTHORIZE_URL if base_url == BASE_URL else base_url + _AUTHORIZE_PATH


def origin(url: str) -> str:
    """Return https://host[:port] of a URL, in lower case and without a port that goes without saying."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    default = {"https": 443, "http": 80}.get(parts.scheme)
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
