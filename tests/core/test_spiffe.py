"""SPIFFE IDs as caller ids."""

from __future__ import annotations

import pytest

from broker.core.identity import CallerId
from broker.core.spiffe import is_trust_domain, workload_of


@pytest.mark.parametrize(
    ("unverified_id", "caller"),
    [
        ("spiffe://corp.example/a", CallerId("spiffe", "//corp.example/a")),
        ("spiffe://corp.example/ns/a-b/c_d.e", CallerId("spiffe", "//corp.example/ns/a-b/c_d.e")),
        ("spiffe://corp.example", None),
        ("spiffe://corp.example/", None),
        ("spiffe://corp.example/a/", None),
        ("spiffe://corp.example//a", None),
        ("spiffe://corp.example/./a", None),
        ("spiffe://corp.example/a/..", None),
        ("spiffe://corp.example/a?b", None),
        ("spiffe://corp.example/a b", None),
        ("spiffe://corp.example:8443/a", None),
        ("spiffe://user@corp.example/a", None),
        ("spiffe://CORP.example/a", None),
        ("SPIFFE://corp.example/a", None),
        ("spiffe://other.example/a", None),
        ("https://corp.example/a", None),
        ("spiffe://corp.example/" + "a" * 241, None),
    ],
)
def test_only_workloads_of_exactly_our_trust_domain_are_callers(unverified_id: str, caller: CallerId | None) -> None:
    """The id is taken as it is or not at all; what is taken prints as itself."""
    found = workload_of(unverified_id, "corp.example")
    assert caller == found
    assert found is None or unverified_id == str(found)


@pytest.mark.parametrize(
    ("text", "expected"), [("corp.example", True), ("a", True), ("", False), ("Corp", False), ("a/b", False)]
)
def test_trust_domains(text: str, expected: bool) -> None:
    """A trust domain is lower case letters, digits, dots, dashes and underscores."""
    assert expected == is_trust_domain(text)
