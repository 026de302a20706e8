"""Shared buckets opened for a test, and what they told meanwhile."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.adapters.sql.buckets import SharedBuckets, open_shared_buckets
from broker.ports import LimitTelemetry
from tests.support.postgres import PostgresServer
from tests.support.waiting import ENOUGH


class Told:
    """LimitTelemetry that remembers.

    Attributes:
        causes: why lanes were cut off; lanes: how many are now; by_share: requests decided by the share.
    """

    def __init__(self) -> None:
        self.causes: list[str] = []
        self.lanes = 0
        self.by_share = 0

    def limits_cut_off(self, cause: str) -> None:
        self.causes.append(cause)
        self.lanes += 1

    def limits_shared_again(self) -> None:
        self.lanes -= 1

    def limit_decided_by_share(self) -> None:
        self.by_share += 1


def microseconds() -> int:
    """Return a clock that never steps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


@asynccontextmanager
async def opened(
    url: str,
    telemetry: LimitTelemetry | None = None,
    *,
    replicas: int = 1,
    connections: int = 2,
    patience: float = ENOUGH,
) -> AsyncIterator[SharedBuckets]:
    """Lend one replica's buckets; a busy machine does not cut them off unless they are given less patience."""
    told = telemetry or Told()
    async with open_shared_buckets(
        url, connections=connections, replicas=replicas, telemetry=told, now=microseconds, patience=patience
    ) as buckets:
        yield buckets


def emptied(server: PostgresServer, database: str) -> None:
    """Forget all shared buckets."""
    server.execute("TRUNCATE limit_bucket", database)
