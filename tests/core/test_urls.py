"""Origins."""

from __future__ import annotations

import pytest

from broker.core.urls import origin_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.Example/v1?x#y", "https://api.example"),
        ("HTTPS://api.example:443/", "https://api.example"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://127.0.0.1:8090/x", "http://127.0.0.1:8090"),
        ("https://user:pw@[::1]:8443/", "https://[::1]:8443"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    """An origin is scheme, host and any port that is not the scheme's own (RFC 6454 §4)."""
    assert origin == origin_of(url)


@pytest.mark.parametrize("url", ["", "api.example", "/v1", "https://", "https://a:99999/", "https://[::1"])
def test_what_has_no_origin(url: str) -> None:
    """A URL that is not absolute has no origin."""
    with pytest.raises(ValueError, match=r".+"):
        origin_of(url)
