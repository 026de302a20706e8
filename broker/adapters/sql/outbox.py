"""Events stored in the transaction of the change they tell of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, exists, false, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.part import Part
from broker.adapters.sql.tables import control, outbox
from broker.core.audit import AuditEvent, from_json, to_json
from broker.ports import PendingEvent

KEPT_MS: Final = 3_600_000
"""How long a delivered event stays: far longer than anyone reads back whether its transaction was committed."""


async def put_event(connection: AsyncConnection, event_id: str, event: AuditEvent) -> None:
    """Store an event beside the version as it is now."""
    values = select(literal(event_id), control.c.version, literal(to_json(event.bounded())), false())
    await connection.execute(insert(outbox).from_select(["id", "version", "event", "delivered"], values))


async def has_event(connection: AsyncConnection, event_id: str) -> bool:
    """Tell whether the transaction that stored this event was committed."""
    return bool((await connection.execute(select(exists().where(outbox.c.id == event_id)))).scalar_one())


class SqlOutbox(Part):
    """The Outbox port."""

    async def undelivered(self, limit: int) -> Sequence[PendingEvent]:
        """Return at most `limit` events not marked delivered, oldest change first."""

        async def work(connection: AsyncConnection) -> Sequence[PendingEvent]:
            pending = select(outbox.c.id, outbox.c.event).where(~outbox.c.delivered)
            statement = pending.order_by(outbox.c.version).limit(limit)
            return [PendingEvent(id_, from_json(text)) for id_, text in await connection.execute(statement)]

        return await self.lanes.read(work)

    async def mark_delivered(self, ids: Sequence[str]) -> None:
        """Note that the audit log holds these events; forget those of which that was noted long ago."""

        async def work(connection: AsyncConnection) -> None:
            delivered = update(outbox).where(outbox.c.id.in_(ids), ~outbox.c.delivered)
            await connection.execute(delivered.values(delivered=True, delivered_at=now_ms()))
            await connection.execute(delete(outbox).where(outbox.c.delivered_at <= now_ms() - KEPT_MS))

        await self.lanes.write(work)
