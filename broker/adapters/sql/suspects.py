"""How far the database has come, and the grants held because it had come further once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import ColumnElement, case, delete, or_, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import recovery_steps
from broker.adapters.sql.access_tokens import tell_ended
from broker.adapters.sql.admin import Change, Unchanged, change
from broker.adapters.sql.grant_row import lock, move_counted
from broker.adapters.sql.part import Part
from broker.adapters.sql.rows import insert_into
from broker.adapters.sql.tables import control, grants, suspects
from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.evidence import Landmark, Position
from broker.core.grant_state import GrantState, Hold
from broker.core.models import Kind
from broker.ports import Suspect

_AT_ONCE: Final = 500
_OF_POSTGRES: Final = text(
    "SELECT system_identifier::text, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint, "
    "(pg_current_wal_lsn() - '0/0')::bigint FROM pg_control_system()"
)


class SqlSuspects(Part):
    """The RollbackStore port."""

    async def position(self) -> Position | None:
        """Return how far the database has come, None where it may not be asked."""

        async def work(connection: AsyncConnection) -> Position | None:
            if connection.dialect.name == "sqlite":
                return Position("sqlite", 0, (await connection.execute(select(control.c.rotations))).scalar_one())
            try:
                async with connection.begin_nested():
                    row = (await connection.execute(_OF_POSTGRES)).one()
            except DBAPIError:  # a role or a service that may not: what each grant tells has to do
                return None
            return Position(row[0], row[1], row[2])

        return await self.lanes.read(work)

    async def known_landmarks(self, grant_ids: Sequence[str]) -> Mapping[str, Landmark]:
        """Return how far these grants are known to have come."""
        found: dict[str, Landmark] = {}
        for start in range(0, len(grant_ids), _AT_ONCE):
            found |= await self._landmarks(grant_ids[start : start + _AT_ONCE])
        return found

    async def _landmarks(self, grant_ids: Sequence[str]) -> Mapping[str, Landmark]:
        async def work(connection: AsyncConnection) -> Mapping[str, Landmark]:
            statement = select(grants.c.id, grants.c.attempt, grants.c.generation).where(grants.c.id.in_(grant_ids))
            return {row.id: Landmark(row.attempt, row.generation) for row in await connection.execute(statement)}

        return await self.lanes.read(work)

    async def hold_suspect(self, grant_id: str, evidence: Landmark, found_at: datetime, record: AuditEvent) -> bool:
        """Freeze a grant as a suspect; False when it is one with no less evidence, or not there."""

        async def work(under_way: Change) -> None:
            connection = under_way.connection
            before = await lock(connection, grant_id)
            if before is None or before.hold not in {Hold.NONE, Hold.FROZEN}:
                raise Unchanged
            more = or_(suspects.c.attempt < evidence.attempt, suspects.c.generation < evidence.generation)
            insert = insert_into(connection, suspects).values(
                grant_id=grant_id,
                attempt=evidence.attempt,
                generation=evidence.generation,
                found_at=round(found_at.timestamp() * 1000),
            )
            joined = {
                "attempt": _at_least(suspects.c.attempt, evidence.attempt),
                "generation": _at_least(suspects.c.generation, evidence.generation),
            }
            noted = insert.on_conflict_do_update(index_elements=["grant_id"], set_=joined, where=more)
            if (await connection.execute(noted.returning(suspects.c.grant_id))).one_or_none() is None:
                raise Unchanged
            await move_counted(connection, grant_id, before, grants.c.hold == Hold.NONE, hold=Hold.FROZEN)
            await tell_ended(connection, grant_id, under_way.version)
            under_way.touched.add((Kind.GRANT, grant_id))

        try:
            await change(self.lanes, work, record)
        except Unchanged:
            return False
        return True

    async def list_suspects(self, after: str, limit: int) -> Sequence[Suspect]:
        """Return suspects in the order of their names."""

        async def work(connection: AsyncConnection) -> Sequence[Suspect]:
            statement = (
                select(grants.c.name, grants.c.attempt, grants.c.generation, suspects)
                .join(grants, grants.c.id == suspects.c.grant_id)
                .where(grants.c.name > after, grants.c.hold == Hold.FROZEN)
                .order_by(grants.c.name)
                .limit(limit)
            )
            return [
                Suspect(name, Landmark(attempt, generation), Landmark(*noted), datetime.fromtimestamp(at / 1000, UTC))
                for name, attempt, generation, _, *noted, at in (await connection.execute(statement)).all()
            ]

        return await self.lanes.read(work)

    async def release(self, grant_id: str, *, abandon: bool, record: AuditEvent) -> GrantState | None:
        """Let a suspect go; None when it is none."""

        async def work(under_way: Change) -> GrantState:
            connection = under_way.connection
            gone = delete(suspects).where(suspects.c.grant_id == grant_id)
            row = (await connection.execute(gone.returning(suspects.c.attempt, suspects.c.generation))).one_or_none()
            if row is None:
                raise Unchanged
            event = lease.Release(row.attempt, row.generation, abandon)
            after = await recovery_steps.release(connection, grant_id, event)
            if after is None:
                raise Unchanged
            under_way.touched.add((Kind.GRANT, grant_id))
            return after

        try:
            after, _ = await change(self.lanes, work, record)
        except Unchanged:
            return None
        return after


def _at_least(column: ColumnElement[int], value: int) -> ColumnElement[int]:
    return case((column < value, value), else_=column)
