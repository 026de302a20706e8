"""Removing buckets that nobody has used for long, on PostgreSQL."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.lanes import Lanes
from broker.core.errors import StoreUnavailableError

SWEEP_SECONDS: Final = 600.0
"""How often buckets are removed that have been empty for long."""
SWEPT_AT_ONCE: Final = 1000

# An hour, so that a clock that steps back meets every debt there was. Buckets in use are not waited for.
_SWEEP: Final = text("""
    DELETE FROM limit_bucket WHERE key = ANY (ARRAY(
        SELECT key FROM limit_bucket
        WHERE tat < CAST(extract(epoch FROM clock_timestamp() - interval '1 hour') * 1000000 AS bigint)
        LIMIT :most FOR UPDATE SKIP LOCKED
    ))
""")


async def sweep_buckets(lanes: Lanes, most: int = SWEPT_AT_ONCE) -> int:
    """Remove the buckets that have been empty for an hour: they are as good as none; return how many.

    Raises:
        StoreUnavailableError: the rest is for another time.
    """

    async def work(connection: AsyncConnection) -> int:
        return (await connection.execute(_SWEEP, {"most": most})).rowcount

    swept = removed = await lanes.write(work)
    while removed == most:
        removed = await lanes.write(work)
        swept += removed
    return swept


async def sweep_for_ever(lanes: Lanes) -> None:
    """Go on until cancelled; a store that is away is tried again. Any number of replicas may do so at once."""
    while True:
        with suppress(StoreUnavailableError):
            await sweep_buckets(lanes)
        await asyncio.sleep(SWEEP_SECONDS)
