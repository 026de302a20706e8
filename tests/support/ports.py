"""Ports for those who have to know theirs before they listen."""

from __future__ import annotations

import random
import socket
from typing import Final

BELOW_EPHEMERAL: Final = range(20_000, 32_000)
"""No outgoing connection of anybody takes one of these by chance."""


def free_port() -> int:
    """Return a port of loopback that nobody has just now."""
    while True:
        port = random.choice(BELOW_EPHEMERAL)
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
