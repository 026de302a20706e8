"""The peer's address, as limits and the tally of denials tell peers apart."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote

IPV6_SITE_BITS = 64
"""One host is commonly given a whole IPv6 network of this length, so it counts as one peer."""


def address_of(peer: str) -> str:
    """Return the address in a peer as gRPC names it (`ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`, `unix:`).

    IPv6 addresses are cut to their /64. What has no address is its scheme.
    """
    scheme, _, rest = peer.partition(":")
    if scheme == "ipv4":
        return rest.rpartition(":")[0]
    if scheme == "ipv6":
        host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
        try:
            network = ipaddress.IPv6Network((host, IPV6_SITE_BITS), strict=False)
        except ValueError:
            return scheme
        return str(network)
    return scheme
