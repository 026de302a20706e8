"""grpc.health.v1, with watches that are bounded in number, cost nothing while nothing changes and end with the server.

Anybody may ask: probes have no credentials. A check is answered whatever the number of watches is; it costs what the
refusal of a call costs, so that refusing it would spare nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import grpc
from grpc_health.v1 import health

from broker.rpc.peer import address_of

LAST_WORD: Final = 0.2
"""Seconds a watcher has to be sent the last status."""

MAX_WATCHES: Final = 1_000
"""Watches at once; a watch has no end but its connection's, and holds some 30 KiB until then."""

MAX_WATCHES_OF_PEER: Final = 250
"""Watches of one address at once: one per client of a busy host, and a quarter of all."""

MAX_NAME: Final = 255
"""Characters of a service's name that is watched: names that nobody serves are kept too."""


class Health(health.aio.HealthServicer):
    """The library's servicer; its watches are unbounded, and would hold the server for its whole grace."""

    def __init__(self, *, most: int = MAX_WATCHES, most_of_peer: int = MAX_WATCHES_OF_PEER) -> None:
        """Bound the watches: of all peers together, and of one address."""
        super().__init__()
        self._most = most
        self._most_of_peer = most_of_peer
        self._watches: Counter[str] = Counter()
        self._told: dict[str, int] = {}
        self._ended = asyncio.Event()

    async def set(self, service: str, status: int) -> None:
        """Set a service's status; only a new one wakes its watches."""
        if self._told.get(service) != status:
            await super().set(service, status)
            self._told[service] = status

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: ANN401, N802 - the library's signature
        """Stream a service's status until the watcher leaves or the server ends; one watch too many is refused."""
        if len(request.service) > MAX_NAME:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no service has so long a name")
        address = address_of(context.peer())
        if self._watches.total() >= self._most or self._watches[address] >= self._most_of_peer:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watches; checks are answered")
        self._watches[address] += 1
        try:
            await self._watch_to_the_end(request, context)
        finally:
            self._watches[address] -= 1
            if not self._watches[address]:
                del self._watches[address]

    async def _watch_to_the_end(self, request: Any, context: Any) -> None:  # noqa: ANN401 - as above
        watching = asyncio.ensure_future(super().Watch(request, context))
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({watching}, timeout=LAST_WORD)
        finally:
            watching.cancel()
            ending.cancel()
            await asyncio.gather(watching, ending, return_exceptions=True)

    def end_watches(self) -> None:
        """End every watch, the last status sent."""
        self._ended.set()
