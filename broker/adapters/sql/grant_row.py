"""The one row a step moves: locked, updated where a condition holds, counted under the state it is shown with."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.counts import move_counts
from broker.adapters.sql.rows import STATE_COLUMNS, grant_state
from broker.adapters.sql.tables import grants as g
from broker.core.grant_state import GrantState, Health, Hold

Condition = ColumnElement[bool]

LEASE_OVER: Final[Condition] = g.c.lease_until <= now_ms()
IN_WINDOW: Final[Condition] = and_(g.c.replay_until.is_not(None), g.c.replay_until > now_ms())
NO_DOUBT: Final[dict[str, object]] = {"first_sent_at": None, "replay_until": None, "sends": 0, "probes": 0}
MAY_BEGIN: Final[tuple[Condition, ...]] = (
    g.c.current.is_not(None),
    g.c.hold == Hold.NONE,
    g.c.health == Health.OK,
    g.c.not_before <= now_ms(),
)
_BRIEFLY: Final = text("SET LOCAL lock_timeout = '1s'")
NOT_ENDED: Final[Condition] = g.c.hold.in_([Hold.NONE, Hold.FROZEN])


async def wait_briefly(connection: AsyncConnection) -> None:
    """Let this transaction wait for a row at most a second, where another writer can hold one."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_BRIEFLY)


async def lock(connection: AsyncConnection, grant_id: str) -> GrantState | None:
    """Return the row as it is and keep others from changing it until the transaction ends."""
    statement = select(*STATE_COLUMNS).where(g.c.id == grant_id).with_for_update()
    row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else grant_state(row)


async def read(connection: AsyncConnection, grant_id: str) -> GrantState | None:
    """Return the row as it is."""
    row = (await connection.execute(select(*STATE_COLUMNS).where(g.c.id == grant_id))).mappings().one_or_none()
    return None if row is None else grant_state(row)


async def move(
    connection: AsyncConnection, grant_id: str, *conditions: Condition, **values: object
) -> GrantState | None:
    """Update the row where all conditions hold; None where they do not. The state it is shown with stays the same."""
    statement = update(g).where(g.c.id == grant_id, *conditions).values(values).returning(*STATE_COLUMNS)
    row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else grant_state(row)


async def move_counted(
    connection: AsyncConnection, grant_id: str, before: GrantState | None, *conditions: Condition, **values: object
) -> GrantState | None:
    """Do as `move`, and count the grant out of the state that `before`, the locked row, is shown with."""
    after = await move(connection, grant_id, *conditions, **values)
    if after is not None:
        await move_counts(connection, before, after)
    return after
