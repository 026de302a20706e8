"""Logins under way: rows that are replaced one version after the other, so that of two who make a step one is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.lanes import Lane
from broker.adapters.sql.outbox import put_event
from broker.adapters.sql.part import Part
from broker.adapters.sql.rows import fresh_id
from broker.adapters.sql.tables import authorizations as t
from broker.core.audit import AuditEvent
from broker.core.authorization import OPEN_PHASES, Authorization, Failure, LoginPhase, parse_facts, receive
from broker.core.sealing import Sealed
from broker.ports import LoginReading, ReceivedLogin

_OPEN: Final = t.c.phase.in_(OPEN_PHASES)
_NOW: Final = now_ms().label("now")
_ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('logins of ' || :starter, 0))")


class SqlLogins(Part):
    """The AuthorizationStore port."""

    async def add_login(self, login: Authorization, life_ms: int, most_open: int, event: AuditEvent) -> int | None:
        """Store a new login with its event; None when its starter has enough open ones."""
        event_id, starter = fresh_id(), login.facts.starter
        mine = and_(t.c.starter == starter, _OPEN, t.c.expires_at > now_ms())

        async def work(connection: AsyncConnection) -> int | None:
            if connection.dialect.name == "postgresql":  # SQLite has one writer
                await connection.execute(_ONE_AT_A_TIME, {"starter": starter})
            if (await connection.execute(select(func.count()).select_from(t).where(mine))).scalar_one() >= most_open:
                return None
            values = _values(login) | {"starter": starter, "expires_at": now_ms() + life_ms}
            added = insert(t).values(id=login.facts.id, **values, moved_at=now_ms()).returning(t.c.expires_at)
            expires_at: int = (await connection.execute(added)).scalar_one()
            await put_event(connection, event_id, event)
            return expires_at

        return await self.lanes.write(work)

    async def find_login(self, login_id: str) -> LoginReading | None:
        """Return the login of this id, or None."""
        return await self._first(t.c.id == login_id)

    async def find_by_state(self, state: str) -> LoginReading | None:
        """Return the login whose state's digest this is, or None."""
        return await self._first(and_(t.c.state == state, t.c.state != ""))

    async def find_by_code(self, code: str) -> LoginReading | None:
        """Return the login whose one-time code's digest this is, or None."""
        return await self._first(and_(t.c.code == code, t.c.code != ""))

    async def move_login(self, after: Authorization, event: AuditEvent | None = None) -> bool:
        """Replace the row of the version before; False when it is of another."""
        event_id = fresh_id()
        before = and_(t.c.id == after.facts.id, t.c.version == after.version - 1)

        async def work(connection: AsyncConnection) -> bool:
            moved = update(t).where(before).values(**_values(after), moved_at=now_ms()).returning(t.c.id)
            if (await connection.execute(moved)).one_or_none() is None:
                return False
            if event is not None:
                await put_event(connection, event_id, event)
            return True

        async def confirm(connection: AsyncConnection) -> bool:
            row = (await connection.execute(select(t).where(t.c.id == after.facts.id).with_for_update())).mappings()
            found = row.one_or_none()
            return found is not None and _login(found) == after

        return await self.lanes.write(work, lane=Lane.COMMIT, confirm=confirm)

    async def receive_login(self, received: ReceivedLogin) -> bool:
        """Make the step `receive`, whatever the version; False when there is no such login."""
        event_id = fresh_id()
        mine = select(t, _NOW).where(t.c.id == received.id).with_for_update()

        async def work(connection: AsyncConnection) -> bool:
            row = (await connection.execute(mine)).mappings().one_or_none()
            if row is None:
                return False
            after = receive(_login(row), received.sealed, received.granted, row["now"])
            if after is not None:
                values = _values(after) | {"moved_at": now_ms()}
                await connection.execute(update(t).where(t.c.id == received.id).values(values))
                await put_event(connection, event_id, received.event)
            return True

        async def confirm(connection: AsyncConnection) -> bool:
            row = (await connection.execute(mine)).mappings().one_or_none()
            return row is not None and receive(_login(row), received.sealed, received.granted, 0) is None

        return await self.lanes.write(work, lane=Lane.COMMIT, confirm=confirm)

    async def unsettled_logins(self, limit: int) -> Sequence[LoginReading]:
        """Return at most `limit` open logins whose time is over, the oldest first."""

        async def work(connection: AsyncConnection) -> Sequence[LoginReading]:
            over = select(t, _NOW).where(_OPEN, t.c.expires_at <= now_ms()).order_by(t.c.expires_at).limit(limit)
            return [_reading(row) for row in (await connection.execute(over)).mappings()]

        return await self.lanes.read(work)

    async def forget_logins(self, older_ms: int) -> None:
        """Remove logins that were over so long ago."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(t).where(~_OPEN, t.c.moved_at < now_ms() - older_ms))

        await self.lanes.write(work)

    async def _first(self, wanted: ColumnElement[bool]) -> LoginReading | None:
        async def work(connection: AsyncConnection) -> LoginReading | None:
            row = (await connection.execute(select(t, _NOW).where(wanted).limit(1))).mappings().one_or_none()
            return None if row is None else _reading(row)

        return await self.lanes.read(work)


def _values(login: Authorization) -> dict[str, Any]:
    received = login.received
    return {
        "facts": login.facts.text(),
        "phase": login.phase.value,
        "failure": "" if login.failure is None else login.failure.value,
        "browser": login.browser,
        "person": login.person,
        "tries": login.tries,
        "state": login.state,
        "code": login.code,
        "taken": login.taken,
        "granted": " ".join(login.granted),
        "owner": login.owner,
        "version": login.version,
        "expires_at": login.expires_at,
        "key_id": login.verifier.key_id,
        "verifier": login.verifier.ciphertext,
        "received_key_id": None if received is None else received.key_id,
        "received": None if received is None else received.ciphertext,
    }


def _reading(row: RowMapping) -> LoginReading:
    return LoginReading(_login(row), row["now"])


def _login(row: RowMapping) -> Authorization:
    received = row["received_key_id"]
    return Authorization(
        facts=parse_facts(row["facts"]),
        verifier=Sealed(row["key_id"], row["verifier"]),
        expires_at=row["expires_at"],
        phase=LoginPhase(row["phase"]),
        failure=Failure(row["failure"]) if row["failure"] else None,
        browser=row["browser"],
        person=row["person"] or "",
        tries=row["tries"],
        state=row["state"],
        code=row["code"],
        taken=row["taken"],
        granted=tuple(row["granted"].split()),
        received=None if received is None else Sealed(received, row["received"]),
        owner=row["owner"],
        version=row["version"],
    )
