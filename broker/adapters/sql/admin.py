"""The frame of every transaction that changes what is configured: one at a time, its last act a new version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.control import lock_control, raise_version
from broker.adapters.sql.lanes import Lanes
from broker.adapters.sql.outbox import has_event, put_event
from broker.adapters.sql.rows import fresh_id
from broker.adapters.sql.tables import control
from broker.core.audit import AuditEvent

T = TypeVar("T")

CHANGE_SECONDS: Final = 30.0
"""Longest a change may take: a configuration may hold thousands of grants."""


@dataclass(slots=True)
class Change:
    """A change under way.

    Attributes:
        version: the version it will have.
        revision: the configuration's revision before it, and after it when replaced.
        touched: (kind, id) of everything it changed.
    """

    connection: AsyncConnection
    version: int
    revision: int
    touched: set[tuple[str, str]] = field(default_factory=set)


class Unchanged(Exception):  # noqa: N818 - not an error: the change turned out not to be one
    """Raised by a change that found nothing to do; the transaction is rolled back."""


async def change(lanes: Lanes, work: Callable[[Change], Awaitable[T]], event: AuditEvent) -> tuple[T, int]:
    """Run `work` as one change with its event; return what it returned and the new version.

    The control row is locked first, so that changes come one after another and cannot wait for each other in a ring,
    and raised last, so that whoever sees the version sees the change.
    """
    event_id = fresh_id()

    async def transaction(connection: AsyncConnection) -> tuple[T, int]:
        row = await lock_control(connection)
        under_way = Change(connection, row.version + 1, row.revision)
        result = await work(under_way)
        await put_event(connection, event_id, event)
        if under_way.revision != row.revision:
            await connection.execute(update(control).values(revision=under_way.revision))
        await raise_version(connection, under_way.version, under_way.touched)
        return result, under_way.version

    async def confirm(connection: AsyncConnection) -> bool:
        await lock_control(connection)
        return await has_event(connection, event_id)

    def note(changed: tuple[T, int]) -> None:
        lanes.version = max(lanes.version, changed[1])

    return await lanes.write(transaction, confirm=confirm, committed=note, seconds=CHANGE_SECONDS)
