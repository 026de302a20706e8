"""How host names become addresses: on threads of their own, so that a name server that says nothing stops nobody else.

The event loop's own lookups share a handful of threads for everything, and one that was given up runs on in its thread:
two names whose servers are silent keep every other name from being looked up.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

from broker.adapters.egress import Address
from broker.ports import NotSentError

MOST_LOOKUPS: Final = 64
"""Names looked up at once; each has a thread, and a name has one lookup however many wait for it."""

LOOPBACK: Final = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
"""What `localhost` is, whatever a name server says (RFC 6761 §6.3)."""


def look_up(host: str) -> Sequence[str]:
    """Ask the system for the addresses of a host; blocks for as long as its name servers say nothing, up to minutes.

    Raises:
        OSError: there are none.
        ValueError: this cannot be a host's name.
    """
    return [str(sockaddr[0]) for *_, sockaddr in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class HostNames:
    """`Resolve` for one event loop.

    Nothing of it has to be closed: its threads end with their lookups, and one that does not end holds no process.
    """

    def __init__(self, look_up: Callable[[str], Sequence[str]] = look_up, *, most: int = MOST_LOOKUPS) -> None:
        """Wire it.

        Args:
            look_up: host name → addresses; blocks, and raises OSError or ValueError where there are none.
            most: names looked up at once.
        """
        self._look_up = look_up
        self._most = most
        self._running: dict[str, asyncio.Future[Sequence[Address]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Return the addresses of a host name or literal, in the order to try them; the port makes no difference.

        Whoever comes while a name is looked up waits for that lookup, also where those who began it gave it up.

        Raises:
            NotSentError: there are none, or too many names are being looked up (cause `dns`).
        """
        del port
        with contextlib.suppress(ValueError):
            return [ipaddress.ip_address(host)]
        if host == "localhost":
            return LOOPBACK
        addresses = await asyncio.shield(self._running.get(host) or self._start(host))
        if not addresses:
            raise NotSentError("dns")
        return addresses

    def _start(self, host: str) -> asyncio.Future[Sequence[Address]]:
        if len(self._running) >= self._most:
            raise NotSentError("dns")
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, args=(host, loop), name="look-up-host", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            raise NotSentError("dns") from None
        self._running[host] = loop.create_future()  # before the thread's answer, which takes a turn of the loop
        return self._running[host]

    def _run(self, host: str, loop: asyncio.AbstractEventLoop) -> None:
        addresses: Sequence[Address] = ()
        try:
            addresses = list(dict.fromkeys(map(ipaddress.ip_address, self._look_up(host))))
        except (OSError, ValueError):
            pass
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and everybody who waited with it
                loop.call_soon_threadsafe(self._end, host, addresses)

    def _end(self, host: str, addresses: Sequence[Address]) -> None:
        self._running.pop(host).set_result(addresses)
