"""Rate limit buckets that all replicas share, on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from broker.adapters.sql.limit_lane import PATIENCE, LimitLane
from broker.adapters.sql.limit_share import Debts, Share
from broker.adapters.sql.limit_table import LimitTable
from broker.adapters.sql.migrate import database_url
from broker.core.gcra import ALLOWED, Charge, Decision, beyond_burst
from broker.ports import LimitTelemetry


class SharedBuckets:
    """Port `Buckets` over PostgreSQL, exact over all replicas; where that does not answer, this replica's share.

    Requests are divided into lanes by their first bucket, each with a connection, so that a bucket somebody holds
    keeps few others waiting.
    """

    def __init__(self, lanes: Sequence[LimitLane]) -> None:
        self._lanes = lanes

    async def spend(self, charges: Sequence[Charge]) -> Decision:
        """Spend every charge, or none, within a second."""
        if not charges:
            return ALLOWED
        never = beyond_burst(charges)
        if never is not None:
            return never
        return await self._lanes[hash(charges[0].bucket) % len(self._lanes)].spend(charges)


@asynccontextmanager
async def open_shared_buckets(  # noqa: PLR0913 - each is a fact of the process
    url: str,
    *,
    connections: int,
    replicas: int,
    telemetry: LimitTelemetry,
    now: Callable[[], int],
    patience: float = PATIENCE,
) -> AsyncIterator[SharedBuckets]:
    """Lend the buckets; a store that does not answer yet is come back to.

    Args:
        url: PostgreSQL's.
        connections: lanes.
        replicas: the most there may be; the share is 1 / replicas.
        telemetry: told when a lane is cut off from the store, and when it comes back.
        now: microseconds of a clock that never steps.
        patience: seconds a call to the store may take.
    """
    share = Share(replicas, now)
    tables = [LimitTable(database_url(url)) for _ in range(connections)]
    lanes = [
        LimitLane(table=table, share=share, debts=Debts(now), telemetry=telemetry, patience=patience)
        for table in tables
    ]
    await asyncio.gather(*(lane.open() for lane in lanes))
    try:
        yield SharedBuckets(lanes)
    finally:
        await asyncio.gather(*(lane.aclose() for lane in lanes))
