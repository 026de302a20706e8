"""Where results of a login may be sent."""

from __future__ import annotations

import pytest

from broker.core.oauth.redirect_uri import MAX_URI, redirect_uri_problem


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/cb",
        "https://app.example:8443/cb?tenant=a",
        "http://127.0.0.1:1234/cb",
        "http://[::1]/cb",
        "http://localhost:80/cb",
        "com.example.app:/cb",
        "com.example.app:cb",
    ],
)
def test_what_may_be_registered(uri: str) -> None:
    """The web over TLS, programs of this machine, schemes that are somebody's."""
    assert redirect_uri_problem(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/cb",
        "app.example/cb",
        "http://app.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://localhost.evil.example/cb",
        "https:///cb",
        "https://app.example/cb#part",
        "https://user@app.example/cb",
        "https://app.example:99999/cb",
        "https://*.app.example/cb",
        "https://app.example\\.evil.example/cb",
        "https://app.example/c b",
        "https://app.example/\N{LATIN SMALL LETTER E WITH ACUTE}",
        "myapp:/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "com.example.app://evil.example/cb",
        "https://" + "a" * MAX_URI,
    ],
)
def test_what_may_not(uri: str) -> None:
    """Plain http elsewhere, anybody's schemes, what is no URI, what browsers read otherwise than we do."""
    assert redirect_uri_problem(uri) is not None
