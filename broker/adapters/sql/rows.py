"""Rows of grants and tokens as the core's values, and back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.objects_json import decode_names, mac_input
from broker.adapters.sql.tables import grants, refresh_tokens
from broker.core.grant_state import GrantState, Health, Hold, KeptToken, OpenSend, Phase
from broker.core.models import Grant, GrantType, Kind, Origin

_OWN_TABLES: Final = {"tokens", "open_sends"}
STATE_COLUMNS: Final = tuple(grants.c[field.name] for field in fields(GrantState) if field.name not in _OWN_TABLES)
TOKEN_COLUMNS: Final = tuple(refresh_tokens.c[field.name] for field in fields(KeptToken))


def fresh_id() -> str:
    """Return a random id, 128 bits."""
    return secrets.token_hex(16)


def insert_into(connection: AsyncConnection | Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that knows ON CONFLICT, which both databases speak alike."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def grant_state(row: RowMapping, tokens: Sequence[KeptToken] = (), open_sends: Sequence[OpenSend] = ()) -> GrantState:
    """Return the state a row of grants holds."""
    plain: dict[str, Any] = {column.name: row[column.name] for column in STATE_COLUMNS}
    plain |= {"phase": Phase(row["phase"]), "health": Health(row["health"]), "hold": Hold(row["hold"])}
    return GrantState(**plain, tokens=tuple(tokens), open_sends=tuple(open_sends))


def state_values(state: GrantState) -> dict[str, Any]:
    """Return a state as the values of its row's columns."""
    return {column.name: getattr(state, column.name) for column in STATE_COLUMNS}


def grant(row: RowMapping) -> Grant:
    """Return the grant a row holds, without its tokens; its MAC is the caller's to verify."""
    return Grant(
        id=row["id"],
        name=row["name"],
        origin=Origin(row["origin"]),
        client=row["client"],
        type=GrantType(row["type"]),
        scopes=decode_names(row["scopes"]),
        subject=row["subject"],
        person=row["person"],
        state=grant_state(row),
    )


def grant_mac_input(row: RowMapping | dict[str, Any]) -> bytes:
    """Return what the MAC of a grant's row covers: its configuration, subject and person, not its state."""
    subject, person = row["subject"], row["person"]
    return mac_input(
        str(Kind.GRANT),
        row["name"],
        row["id"],
        row["origin"],
        row["client"],
        row["type"],
        row["scopes"],
        "-" if subject is None else f"+{subject}",
        *([] if person is None else [person]),  # nothing at all in rows of before there were persons
    )
