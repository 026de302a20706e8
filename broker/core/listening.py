"""Where the broker may listen, and which listener answers operators."""

from __future__ import annotations

import ipaddress
from enum import StrEnum


class AdminOn(StrEnum):
    """Which gRPC listeners answer the admin services."""

    MTLS = "mtls"
    LISTEN = "listen"
    BOTH = "both"


def is_loopback(address: str) -> bool:
    """Tell whether `host:port` is on this machine only; a name other than localhost is not believed to be."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def plaintext_problem(address: str, *, insecure_flag: bool, allowed_address: str | None) -> str | None:
    """Return why plaintext must not be served on `address`, or None when it may.

    Loopback always may. Elsewhere it has to be told twice: by the flag `--insecure-plaintext` and by
    `BROKER_ALLOW_PLAINTEXT` holding exactly this address.
    """
    if is_loopback(address) or (insecure_flag and allowed_address == address):
        return None
    return (
        f"{address} is not loopback and has no TLS: set BROKER_TLS_CERT and BROKER_TLS_KEY, or say twice that tokens "
        f"may be read on the way, with --insecure-plaintext and BROKER_ALLOW_PLAINTEXT={address}"
    )


def default_admin_on(*, has_mtls: bool) -> AdminOn:
    """Return where the admin services answer when nobody says: on mTLS where there is such a listener."""
    return AdminOn.MTLS if has_mtls else AdminOn.LISTEN
