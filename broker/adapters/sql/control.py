"""The one row that says how far the store has come: the version everybody watches, and what changed with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.tables import changes, control, ended_tokens

CHANGES_KEPT: Final = 10_000
"""Versions whose changes are named; whoever fell further behind is told nothing one by one."""


def is_named(since: int, version: int) -> bool:
    """Tell whether everything that changed after `since` is still named at `version`."""
    return since >= version - CHANGES_KEPT


async def lock_control(connection: AsyncConnection) -> Row[Any]:
    """Return the row and let nobody else change it; before any other lock, so that nobody waits in a ring."""
    return (await connection.execute(select(control).with_for_update())).one()


async def raise_version(connection: AsyncConnection, version: int, touched: Iterable[tuple[str, str]]) -> None:
    """Note what changed with `version` as a transaction's last act, so that whoever sees it sees the change.

    What far older versions changed is forgotten, so that no table grows for ever.
    """
    rows = [{"version": version, "kind": kind, "id": id_} for kind, id_ in sorted(touched)]
    if rows:
        await connection.execute(insert(changes), rows)
    for table in (changes, ended_tokens):
        await connection.execute(delete(table).where(table.c.version <= version - CHANGES_KEPT))
    await connection.execute(update(control).values(version=version))


async def count_rotation(connection: AsyncConnection) -> None:
    """Count a received refresh token, where the database has no position of its own to tell how far it came."""
    if connection.dialect.name == "sqlite":
        await connection.execute(update(control).values(rotations=control.c.rotations + 1))
