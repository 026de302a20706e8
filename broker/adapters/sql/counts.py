"""Counters of grants by display state, moved by every transition: nobody has to count a million rows."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.rows import insert_into
from broker.adapters.sql.tables import grant_counts
from broker.core.grant_state import GrantState, display_state

DISPLAY_STATES: Final = ("ok", "quarantined", "unknown", "frozen", "revoked")
_SHARDS: Final = 8
"""Rows per state, so that transitions of different grants seldom wait for one another."""


async def move_counts(connection: AsyncConnection, before: GrantState | None, after: GrantState | None) -> None:
    """Count one grant out of its old state and into its new one; None is no grant."""
    deltas: Counter[str] = Counter()
    if before is not None:
        deltas[display_state(before)] -= 1
    if after is not None:
        deltas[display_state(after)] += 1
    await add_counts(connection, deltas)


async def add_counts(connection: AsyncConnection, deltas: Mapping[str, int]) -> None:
    """Add to the counters, in the states' order so that two transactions cannot wait for each other in a ring."""
    shard = secrets.randbelow(_SHARDS)
    for state in sorted(state for state, delta in deltas.items() if delta):
        insert = insert_into(connection, grant_counts).values(state=state, shard=shard, count=deltas[state])
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=["state", "shard"], set_={"count": grant_counts.c.count + insert.excluded.count}
            )
        )


async def read_counts(connection: AsyncConnection) -> Mapping[str, int]:
    """Return the number of grants by display state, every state named."""
    statement = select(grant_counts.c.state, func.sum(grant_counts.c.count)).group_by(grant_counts.c.state)
    counted = {state: int(count) for state, count in await connection.execute(statement)}
    return {state: counted.get(state, 0) for state in DISPLAY_STATES}
