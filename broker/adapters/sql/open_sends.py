"""Open sends and the history they are lines of: opened in the licence's transaction, closed by their owner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, delete, exists, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.tables import attempts as h
from broker.adapters.sql.tables import grants as g
from broker.core.grant_state import OpenSend
from broker.ports import AttemptRecord

ATTEMPTS_KEPT: Final = 200
"""Lines of a grant's history."""

_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_OPEN: Final = h.c.outcome == ""


def has_open(attempt: int) -> Any:  # noqa: ANN401 - a condition, whatever SQLAlchemy calls it
    """Tell whether the send of this attempt of the grant, of its login, is open."""
    mine = and_(h.c.grant_id == g.c.id, h.c.attempt == attempt, h.c.consent == g.c.consent, _OPEN)
    return exists().where(mine).correlate(g)


async def open_send(connection: AsyncConnection, record: AttemptRecord, consent: int) -> None:
    """Note a send that begins."""
    await connection.execute(insert(h).values(**_values(record), consent=consent, sent_at=now_ms()))


async def close_unsent(connection: AsyncConnection, grant_id: str, attempt: int, consent: int) -> bool:
    """Note that a send did not happen; False when none of this login was open."""
    mine = (h.c.grant_id == grant_id) & (h.c.attempt == attempt) & (h.c.consent == consent) & _OPEN
    closed = await connection.execute(update(h).where(mine).values(outcome="not_sent").returning(h.c.number))
    return closed.first() is not None


async def note_outcome(connection: AsyncConnection, record: AttemptRecord) -> None:
    """Close the attempt's send, or add a line where it had none; forget the oldest of too many."""
    of_grant = h.c.grant_id == record.grant_id
    opened = of_grant & (h.c.attempt == record.attempt) & h.c.sent_at.is_not(None)
    closed = await connection.execute(update(h).where(opened).values(_values(record)).returning(h.c.number))
    if closed.first() is None:
        await connection.execute(insert(h).values(_values(record)))
    newest = select(h.c.number).where(of_grant).order_by(h.c.number.desc())
    first_too_many = newest.offset(ATTEMPTS_KEPT).limit(1).scalar_subquery()
    await connection.execute(delete(h).where(of_grant, h.c.outcome != literal(""), h.c.number <= first_too_many))


async def list_open(connection: AsyncConnection, grant_id: str, consent: int) -> Sequence[OpenSend]:
    """Return the open sends of a login of a grant, oldest first."""
    mine = (h.c.grant_id == grant_id) & (h.c.consent == consent) & _OPEN
    statement = select(h.c.attempt, h.c.owner, h.c.sent_at).where(mine).order_by(h.c.number)
    return [OpenSend(*row) for row in await connection.execute(statement)]


async def list_newest(connection: AsyncConnection, grant_id: str, limit: int) -> Sequence[AttemptRecord]:
    """Return the newest lines first."""
    statement = select(h).where(h.c.grant_id == grant_id).order_by(h.c.number.desc()).limit(limit)
    return [
        AttemptRecord(
            row.grant_id,
            row.attempt,
            row.owner,
            row.secret_version,
            _EPOCH + row.recorded_at * _MILLISECOND,
            row.outcome,
            row.cause,
        )
        for row in await connection.execute(statement)
    ]


def _values(record: AttemptRecord) -> dict[str, Any]:
    return {
        "grant_id": record.grant_id,
        "attempt": record.attempt,
        "owner": record.owner,
        "secret_version": record.secret_version,
        "outcome": record.outcome,
        "cause": record.cause,
        "recorded_at": (record.recorded_at - _EPOCH) // _MILLISECOND,
    }
