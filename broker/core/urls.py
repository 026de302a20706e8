"""Origins of URLs."""

from __future__ import annotations

from urllib.parse import urlsplit

_DEFAULT_PORTS = {"https": 443, "http": 80}


def origin_of(url: str) -> str:
    """Return `scheme://host[:port]` of a URL, lower case, the scheme's default port left out (RFC 6454 §4).

    Raises:
        ValueError: `url` has no scheme, no host or an impossible port.
    """
    parts = urlsplit(url)
    scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    if not scheme or not host:
        msg = "not an absolute URL"
        raise ValueError(msg)
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}" if port in {None, _DEFAULT_PORTS.get(scheme)} else f"{scheme}://{bracketed}:{port}"
