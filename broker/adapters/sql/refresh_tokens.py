"""Rows of received refresh tokens: written once, read in the order they came, the old and spent ones forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, exists, func, not_, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.rows import TOKEN_COLUMNS, insert_into
from broker.adapters.sql.tables import grants as g
from broker.adapters.sql.tables import refresh_tokens as t
from broker.core.grant_state import Hold, KeptToken
from broker.core.sealing import Sealed

_KEY: Final = ("grant_id", "fingerprint")
_NEVER_SENT: Final = and_(t.c.first_sent_at.is_(None), t.c.refused_at.is_(None))
_NEWEST_FIRST: Final = (t.c.received_at.desc(), t.c.attempt.desc(), t.c.fingerprint.desc())

IS_NEW: Final = and_(
    t.c.grant_id == g.c.id,
    t.c.consent == g.c.consent,
    _NEVER_SENT,
    t.c.fingerprint.is_distinct_from(g.c.current),
)
"""A token that has to be adopted before anything is sent; joined with its grant."""

HAS_NEW: Final = exists().where(IS_NEW).correlate(g)
HAS_NO_NEW: Final = not_(HAS_NEW)


def kept(fingerprint: str, consent: int, attempt: int, generation: int, sealed: Sealed) -> dict[str, Any]:
    """Return a token received now as the values of its columns."""
    return {
        "fingerprint": fingerprint,
        "consent": consent,
        "attempt": attempt,
        "generation": generation,
        "key_id": sealed.key_id,
        "ciphertext": sealed.ciphertext,
        "received_at": now_ms(),
    }


async def keep(connection: AsyncConnection, grant_id: str, token: dict[str, Any]) -> None:
    """Insert a received token; one that is there already stays as it is, but as young as it came last.

    The grant's row is locked by the caller, so that what the token is called now stays true: late, where its grant or
    login ended before it came.
    """
    in_time = exists().where(
        g.c.id == grant_id, g.c.hold.in_([Hold.NONE, Hold.FROZEN]), g.c.consent == token["consent"]
    )
    insert = insert_into(connection, t).values(grant_id=grant_id, **token, late=not_(in_time))
    younger = t.c.generation < token["generation"]
    again = insert.on_conflict_do_update(index_elements=_KEY, set_={"generation": token["generation"]}, where=younger)
    await connection.execute(again)


async def keep_anew(connection: AsyncConnection, grant_id: str, token: dict[str, Any]) -> None:
    """Insert the token of a consent, or replace it as long as it was never used; a used one stays as it is.

    It may have been sealed for an endpoint that was wrong.
    """
    insert = insert_into(connection, t).values(grant_id=grant_id, **token)
    anew = {name: value for name, value in token.items() if name not in _KEY} | {"late": False, "revoked_at": None}
    await connection.execute(insert.on_conflict_do_update(index_elements=_KEY, set_=anew, where=_NEVER_SENT))


async def list_tokens(connection: AsyncConnection, grant_id: str) -> Sequence[KeptToken]:
    """Return what is known of a grant's tokens, oldest first."""
    statement = (
        select(*TOKEN_COLUMNS).where(t.c.grant_id == grant_id).order_by(t.c.received_at, t.c.attempt, t.c.fingerprint)
    )
    return [KeptToken(*row) for row in await connection.execute(statement)]


async def newest_new(connection: AsyncConnection, grant_id: str) -> tuple[str, int] | None:
    """Return fingerprint and generation of the new token received last."""
    columns = (t.c.fingerprint, t.c.generation)
    statement = select(*columns).join(g, IS_NEW).where(g.c.id == grant_id).order_by(*_NEWEST_FIRST).limit(1)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else (row.fingerprint, row.generation)


async def sent_at(connection: AsyncConnection, grant_id: str, fingerprint: str | None) -> tuple[int | None] | None:
    """Return when a token was first sent, in a tuple; None when there is no such token."""
    statement = select(t.c.first_sent_at).where(*_is(grant_id, fingerprint))
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else (row.first_sent_at,)


async def was_exchanged(connection: AsyncConnection, grant_id: str, fingerprint: str) -> bool:
    """Tell whether a token was sent and another is kept that was given for it."""
    other = t.alias()
    given = exists().where(
        other.c.grant_id == grant_id, other.c.consent == t.c.consent, other.c.generation == t.c.generation + 1
    )
    statement = select(t.c.fingerprint).where(*_is(grant_id, fingerprint), t.c.first_sent_at.is_not(None), given)
    return (await connection.execute(statement)).first() is not None


async def mark_sent(connection: AsyncConnection, grant_id: str, fingerprint: str | None, at: int | None) -> None:
    """Note the first send of a token."""
    first = update(t).where(*_is(grant_id, fingerprint), t.c.first_sent_at.is_(None))
    await connection.execute(first.values(first_sent_at=at))


async def mark_unsent(connection: AsyncConnection, grant_id: str, fingerprint: str | None, at: int | None) -> None:
    """Take back the first send of a token, unless an earlier one, told by its own time, was written."""
    taken_back = update(t).where(*_is(grant_id, fingerprint), t.c.first_sent_at == at)
    await connection.execute(taken_back.values(first_sent_at=None))


async def mark_refused(connection: AsyncConnection, grant_id: str, fingerprint: str | None) -> None:
    """Note that the provider refused a token."""
    await connection.execute(update(t).where(*_is(grant_id, fingerprint)).values(refused_at=now_ms()))


async def mark_revoked(connection: AsyncConnection, grant_id: str, fingerprint: str) -> bool:
    """Note that the provider was told that a token ends, and wipe it; False when there is no such token."""
    told = update(t).where(*_is(grant_id, fingerprint)).returning(t.c.fingerprint)
    values = {"revoked_at": func.coalesce(t.c.revoked_at, now_ms()), "key_id": None, "ciphertext": None}
    return (await connection.execute(told.values(values))).one_or_none() is not None


def has_to_be_revoked(grant_id: ColumnElement[str] | str) -> ColumnElement[bool]:
    """Tell whether the provider has not been told of every token it did not refuse."""
    return exists().where(t.c.grant_id == grant_id, t.c.revoked_at.is_(None), t.c.refused_at.is_(None)).correlate(g)


async def forget_spent(connection: AsyncConnection, grant_id: str, before: int, *kept_too: str | None) -> None:
    """Remove spent tokens of generations before `before`, but those named and those the provider is to be told of."""
    told = or_(not_(t.c.late), t.c.revoked_at.is_not(None), t.c.refused_at.is_not(None))
    others = t.c.fingerprint.not_in([name for name in kept_too if name is not None]) if any(kept_too) else true()
    await connection.execute(
        delete(t).where(t.c.grant_id == grant_id, t.c.generation < before, not_(_NEVER_SENT), told, others)
    )


def _is(grant_id: str, fingerprint: str | None) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (t.c.grant_id == grant_id, t.c.fingerprint == fingerprint)
