"""Redirect URIs of apps: what may be registered (RFC 9700 §2.1, RFC 8252 §7). No I/O."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

MAX_URI: Final = 2048

_PRIVATE_SCHEME: Final = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+")
"""A scheme that is a domain name turned round (RFC 8252 §7.1): one without a dot is anybody's."""


def redirect_uri_problem(uri: str) -> str | None:
    """Return why results of a login may not be sent to `uri`, or None.

    Taken are https, http to this machine for programs that listen there (RFC 8252 §7.3), and private-use schemes.
    """
    if not 0 < len(uri) <= MAX_URI or not all("!" <= char <= "~" for char in uri) or "*" in uri or "\\" in uri:
        return f"must be 1 to {MAX_URI} printable ASCII characters, without * and backslashes"
    if "#" in uri:
        return "holds no fragment (RFC 6749 section 3.1.2)"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "must be an absolute URI, its port from 0 to 65535"
    if parts.username is not None or parts.password is not None:
        return "holds no user name or password"
    on_the_web = bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host or "")))
    if on_the_web or (_PRIVATE_SCHEME.fullmatch(parts.scheme) and not parts.netloc):
        return None
    return "must be https, http to loopback, or a scheme that is a domain name turned round, as in com.example.app:/cb"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
