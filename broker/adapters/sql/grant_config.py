"""Writing the configuration of many grants: a few statements, however many they are.

Rows are read without being locked: only changes of the configuration, which come one after another, write these
columns. Those to be removed are locked first: no token may come between the look at their tokens and their end. A
redeem waits at most while its own grant is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from sqlalchemy import RowMapping, bindparam, case, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.admin import Change
from broker.adapters.sql.counts import add_counts
from broker.adapters.sql.objects_json import encode_names
from broker.adapters.sql.rows import STATE_COLUMNS, TOKEN_COLUMNS, grant_mac_input, grant_state, state_values
from broker.adapters.sql.tables import access_tokens, attempts, grants, refresh_tokens
from broker.core.grant_state import GrantState, KeptToken, display_state, holds_live_token
from broker.core.models import Grant, Kind
from broker.ports import LiveGrantError, MacKeys, ObjectChange

AT_ONCE: Final = 500
"""Grants named by one statement."""

Verified = Callable[[RowMapping], Grant]


async def write_grants(
    under_way: Change, changes: Sequence[ObjectChange], mac_keys: MacKeys, verified: Verified
) -> None:
    """Write grants of different names: remove those without a value, put the others.

    A new grant gets a fresh state, one that is there keeps its id, subject, person and state; its epoch grows when its
    client changes.

    Raises:
        LiveGrantError: one to be removed holds a refresh token that its provider may still honour.
    """
    for start in range(0, len(changes), AT_ONCE):
        some = changes[start : start + AT_ONCE]
        stored = await _stored(under_way.connection, [item.name for item in some])
        await _remove(under_way, [stored[item.name]["id"] for item in some if not item.value and item.name in stored])
        values = [cast("Grant", item.value) for item in some if item.value is not None]
        await _add(under_way, [value for value in values if value.name not in stored], mac_keys)
        known = [(value, verified(stored[value.name])) for value in values if value.name in stored]
        await _replace(under_way, known, mac_keys)


async def _stored(connection: AsyncConnection, names: Sequence[str]) -> Mapping[str, RowMapping]:
    rows = await connection.execute(select(grants).where(grants.c.name.in_(names)))
    return {row["name"]: row for row in rows.mappings()}


async def _remove(under_way: Change, ids: Sequence[str]) -> None:
    if not ids:
        return
    connection = under_way.connection
    await _check_none_lives(connection, ids)
    rows = await connection.execute(delete(grants).where(grants.c.id.in_(ids)).returning(*STATE_COLUMNS))
    counted = Counter(display_state(grant_state(row)) for row in rows.mappings())
    await add_counts(connection, {state: -count for state, count in counted.items()})
    for table in (access_tokens, refresh_tokens, attempts):
        await connection.execute(delete(table).where(table.c.grant_id.in_(ids)))
    under_way.touched.update((Kind.GRANT, id_) for id_ in ids)


async def _check_none_lives(connection: AsyncConnection, ids: Sequence[str]) -> None:
    """Lock the rows, then look at their tokens: whoever keeps one locks its grant's row first."""
    locked = select(*STATE_COLUMNS, grants.c.id).where(grants.c.id.in_(ids)).order_by(grants.c.id).with_for_update()
    rows = {row["id"]: row for row in (await connection.execute(locked)).mappings()}
    tokens: dict[str, list[KeptToken]] = {grant_id: [] for grant_id in rows}
    kept = select(refresh_tokens.c.grant_id, *TOKEN_COLUMNS).where(refresh_tokens.c.grant_id.in_(ids))
    for grant_id, *token in await connection.execute(kept):
        tokens[grant_id].append(KeptToken(*token))
    if any(holds_live_token(grant_state(row, tokens[grant_id])) for grant_id, row in rows.items()):
        raise LiveGrantError


async def _add(under_way: Change, values: Sequence[Grant], mac_keys: MacKeys) -> None:
    if not values:
        return
    fresh = state_values(GrantState())
    rows = [_columns(value, mac_keys) | fresh for value in values]
    await under_way.connection.execute(insert(grants), rows)
    await add_counts(under_way.connection, {display_state(GrantState()): len(rows)})
    under_way.touched.update((Kind.GRANT, value.id) for value in values)


async def _replace(under_way: Change, known: Sequence[tuple[Grant, Grant]], mac_keys: MacKeys) -> None:
    if not known:
        return
    rows = [
        {f"new_{name}": column for name, column in _columns(_kept(stored, value), mac_keys).items()}
        for value, stored in known
    ]
    written: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in rows[0]}
    epoch = case((grants.c.client == bindparam("new_client"), grants.c.epoch), else_=grants.c.epoch + 1)
    statement = update(grants).where(grants.c.id == bindparam("new_id")).values(**written, epoch=epoch)
    await under_way.connection.execute(statement, rows)
    under_way.touched.update((Kind.GRANT, stored.id) for _, stored in known)


def _kept(stored: Grant, value: Grant) -> Grant:
    return replace(value, id=stored.id, subject=stored.subject, person=stored.person)


def _columns(value: Grant, mac_keys: MacKeys) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": value.id,
        "name": value.name,
        "origin": value.origin,
        "client": value.client,
        "type": value.type,
        "scopes": encode_names(value.scopes),
        "subject": value.subject,
        "person": value.person,
    }
    row["mac_key_id"], row["mac"] = mac_keys.mac(grant_mac_input(row))
    return row
