"""Resource indicators."""

from __future__ import annotations

import pytest

from broker.core.oauth.rfc8707 import resource_problem


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://api.example", True),
        ("https://api.example/v1?tenant=a", True),
        ("urn:exchange:api", True),
        ("", False),
        ("api.example/v1", False),
        ("/v1", False),
        ("https:", False),
        ("https://api.example/#", False),
        ("https://api.example/a b", False),
        ("https://api.example/\x00", False),
        ("https://api.example/é", False),
        ("https://[::1", False),
        ("https://api.example/" + "a" * 500, False),
    ],
)
def test_a_resource_is_an_absolute_uri_without_fragment(text: str, good: bool) -> None:
    """RFC 8707 §2."""
    assert good == (resource_problem(text) is None)
