"""Where the broker may connect to: every address of a name is checked, a checked address is dialled."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from broker.ports import NotSentError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, GCP, Azure and most others; link-local anyway
        "169.254.170.2",  # AWS container credentials
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # GCP over IPv6
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's host
        "192.0.0.192",  # Oracle
    )
)


def check_url(url: str, *, insecure_loopback: bool) -> None:
    """Refuse what is not an https URL, or an http one where that is allowed.

    Raises:
        NotSentError: cause `egress`.
    """
    parts = urlsplit(url)
    allowed = parts.scheme == "https" or (parts.scheme == "http" and insecure_loopback)
    if not allowed or not parts.hostname or not parts.netloc.isascii() or "@" in parts.netloc:
        raise NotSentError("egress")


def check_addresses(addresses: Sequence[Address], *, plain: bool) -> None:
    """Refuse a host as soon as one of its addresses may not be connected to; `plain` is http without TLS.

    Raises:
        NotSentError: cause `egress`.
    """
    if not all(_allowed(_unwrapped(address), plain=plain) for address in addresses):
        raise NotSentError("egress")


def _allowed(address: Address, *, plain: bool) -> bool:
    if address.is_link_local or address.is_unspecified or address.is_multicast or address in _METADATA:
        return False
    return address.is_loopback or not plain


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one that reaches it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


async def dial(addresses: Sequence[Address], port: int, *, limit: float) -> socket.socket:
    """Connect to the first address that answers; each gets its share of `limit` seconds.

    Raises:
        NotSentError: none did (cause `connect`, or `timeout` when the last one was silent).
    """
    cause = "connect"
    for address in addresses:
        family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM)
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                async with asyncio.timeout(limit / len(addresses)):
                    await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
            except TimeoutError:
                cause = "timeout"
                continue
            except OSError:
                cause = "connect"
                continue
            undo.pop_all()
            return sock
    raise NotSentError(cause)
