"""The address of a peer."""

from __future__ import annotations

import pytest

from broker.rpc.peer import address_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.1.2.3:5000", "10.1.2.3"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[::1]:5000", "::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::/64"),
        ("ipv6:nonsense", "ipv6"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_peers_are_told_apart_by_address(peer: str, address: str) -> None:
    """The port is left out, and an IPv6 host counts by its network."""
    assert address == address_of(peer)
