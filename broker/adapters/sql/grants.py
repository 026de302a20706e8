"""Grants, their redeem, their sealed refresh tokens, their history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import grant_row, open_sends, recovery_steps, refresh_tokens, steps
from broker.adapters.sql.access_tokens import end_before, tell_ended
from broker.adapters.sql.admin import Change, Unchanged, change
from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.control import count_rotation, lock_control, raise_version
from broker.adapters.sql.counts import read_counts
from broker.adapters.sql.lanes import Lane, Work
from broker.adapters.sql.outbox import has_event, put_event
from broker.adapters.sql.part import Part
from broker.adapters.sql.replicas import list_replicas
from broker.adapters.sql.rows import STATE_COLUMNS, fresh_id, grant_mac_input, grant_state
from broker.adapters.sql.tables import grants
from broker.adapters.sql.tables import refresh_tokens as tokens
from broker.adapters.sql.unsettled import UNSETTLED
from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.config_rules import NAME
from broker.core.globs import literal_prefix, matches
from broker.core.grant_state import GrantState, Health, Hold
from broker.core.models import Grant, Kind
from broker.core.sealing import Sealed
from broker.core.settled import settled
from broker.ports import AttemptRecord, GrantReading, StoredRefreshToken

_PAGE: Final = 500
"""Names read at a time while looking for those a pattern matches."""


class SqlGrants(Part):
    """The GrantStore port."""

    async def find_grant(self, name: str) -> Grant | None:
        """Return the grant of this name with its row alone, or None."""
        if not NAME.fullmatch(name):  # no grant can be called so, and PostgreSQL takes no NUL
            return None
        return await self._one(grants.c.name == name, whole=False)

    async def get_grant(self, grant_id: str) -> Grant | None:
        """Return the grant of this id with its state, tokens and open sends, or None."""
        return await self._one(grants.c.id == grant_id, whole=True)

    async def get_state(self, grant_id: str) -> GrantReading | None:
        """Return a grant's row alone and the store's clock, or None."""

        async def work(connection: AsyncConnection) -> GrantReading | None:
            statement = select(*STATE_COLUMNS, now_ms().label("now")).where(grants.c.id == grant_id)
            row = (await connection.execute(statement)).mappings().one_or_none()
            return None if row is None else GrantReading(grant_state(row), row["now"])

        return await self.lanes.read(work)

    async def match_grants(self, patterns: Sequence[str], limit: int) -> Sequence[str]:
        """Return names of at most `limit` grants, in any state but revoked, that match one of the glob patterns."""

        async def work(connection: AsyncConnection) -> Sequence[str]:
            literal = [pattern for pattern in patterns if "*" not in pattern]
            found = set(await _names(connection, grants.c.name.in_(literal), limit)) if literal else set()
            for pattern in patterns:
                if "*" in pattern and len(found) < limit:
                    found |= await _matching(connection, pattern, limit)
            return sorted(found)[:limit]

        return await self.lanes.read(work)

    async def list_grants(self, after: str, limit: int) -> Sequence[Grant]:
        """Return grants in name order, from the first name greater than `after`, without their tokens."""

        async def work(connection: AsyncConnection) -> Sequence[Grant]:
            statement = select(grants).where(grants.c.name > after).order_by(grants.c.name).limit(limit)
            return [self.verified_grant(row) for row in (await connection.execute(statement)).mappings()]

        return await self.with_keys(lambda: self.lanes.read(work))

    async def grant_counts(self) -> Mapping[str, int]:
        """Return the number of grants by display state, from counters."""
        return await self.lanes.read(read_counts)

    async def apply(
        self, grant_id: str, event: lease.Event, *, record: AuditEvent | None = None, announce: bool = False
    ) -> GrantState | None:
        """Run one step of the redeem; return the row after it without tokens, or None when it did not happen.

        `record` is stored with a step that leaves the grant quarantined; `announce` goes with a NotRotated.

        Raises:
            StoreUnavailableError: it did not happen, or (causes `commit`, `timeout`) nobody knows.
            TypeError: the event has a method of its own.
        """
        announced: list[int] = []

        async def work(connection: AsyncConnection) -> GrantState | None:
            version = (await lock_control(connection)).version + 1 if announce else None
            state = await steps.run(connection, grant_id, event, self.times)
            if version is not None and state is not None:
                await self._end_older(connection, grant_id, state.attempt, version)
                announced[:] = [version]
            if record is not None and state is not None and state.health is Health.QUARANTINED:
                await put_event(connection, fresh_id(), record)
            return state

        after = await self._write_state(grant_id, work)
        self.lanes.version = max(self.lanes.version, *announced, 0)
        return after

    async def licence(self, sent: lease.Sent, record: AttemptRecord) -> GrantState | None:
        """Run Sent and note the send as open; None when the step did not happen."""

        async def work(connection: AsyncConnection) -> GrantState | None:
            await grant_row.wait_briefly(
                connection
            )  # who waits longer may not write any more, and others need the lane
            state = await steps.sent(connection, record.grant_id, sent, self.times)
            if state is not None:
                await open_sends.open_send(connection, record, state.consent)
            return state

        return await self._write_state(record.grant_id, work, Lane.COMMIT)

    async def probe(self, grant_id: str, owner: str) -> GrantState | None:
        """Run Probe with what the store knows of the owners of open sends."""

        async def work(connection: AsyncConnection) -> GrantState | None:
            row = await grant_row.lock(connection, grant_id)
            if row is None:
                return None
            open_ = await open_sends.list_open(connection, grant_id, row.consent)
            known = await list_replicas(connection, [send.owner for send in open_])
            now: int = (await connection.execute(select(now_ms()))).scalar_one()
            is_settled = settled(replace(row, open_sends=tuple(open_)), known, now, self.times)
            return await recovery_steps.probe(connection, grant_id, lease.Probe(owner, is_settled), self.times)

        return await self._write_state(grant_id, work)

    async def keep_and_land(
        self, grant_id: str, land: lease.Land, sealed: Sealed, received: AuditEvent, *, announce: bool = False
    ) -> GrantState:
        """Insert the received token unconditionally and run Land, in one durable transaction with its event.

        Return the state afterwards; `current == land.fingerprint` tells whether it became the current one. Doing it
        again changes nothing but a second event. A grant removed meanwhile is shown as revoked; the token is kept.
        """
        event_id = fresh_id()
        announced: list[int] = []

        async def work(connection: AsyncConnection) -> GrantState:
            version = (await lock_control(connection)).version + 1 if announce else None
            before = await grant_row.lock(connection, grant_id)
            token = refresh_tokens.kept(land.fingerprint, land.consent, land.attempt, land.generation, sealed)
            if before is not None and lease.may_be_forgotten(before, land):
                token["first_sent_at"] = now_ms()
            await refresh_tokens.keep(connection, grant_id, token)
            await put_event(connection, event_id, received)
            await count_rotation(connection)
            if before is None:
                return GrantState(hold=Hold.REVOKED)
            after = await steps.land(connection, grant_id, land, before)
            if after.generation == before.generation:
                return after
            spent = after.generation - lease.GENERATIONS_KEPT
            await refresh_tokens.forget_spent(connection, grant_id, spent, after.current)
            if version is not None:
                await self._end_older(connection, grant_id, land.attempt, version)
                announced[:] = [version]
            return after

        async def confirm(connection: AsyncConnection) -> bool:
            stored = await grant_row.lock(connection, grant_id)
            return (stored is not None and stored.current == land.fingerprint) or await has_event(connection, event_id)

        def committed(_: GrantState) -> None:
            self.lanes.version = max(self.lanes.version, *announced, 0)

        return await self.lanes.write(work, lane=Lane.COMMIT, confirm=confirm, committed=committed)

    async def keep_and_consent(  # noqa: PLR0913 - the port's signature
        self,
        grant_id: str,
        event: lease.Consented,
        expected_consent: int,
        sealed: Sealed,
        subject: str | None,
        received: AuditEvent,
        *,
        expected_attempt: int,
        person: str | None = None,
    ) -> GrantState | None:
        """Insert a first refresh token and run Consented, with its event and a new version; None if fenced off."""

        async def work(under_way: Change) -> GrantState:
            connection = under_way.connection
            before = await grant_row.lock(connection, grant_id)
            if before is None or (before.consent, before.attempt) != (expected_consent, expected_attempt):
                raise Unchanged
            after = await steps.consented(connection, grant_id, event, before)
            if after is None:
                raise Unchanged
            token = refresh_tokens.kept(event.fingerprint, after.consent, after.attempt, before.generation, sealed)
            await refresh_tokens.keep_anew(connection, grant_id, token)
            await count_rotation(connection)
            known = {name: value for name, value in (("subject", subject), ("person", person)) if value is not None}
            if known:
                await self._set_known(connection, grant_id, known)
            under_way.touched.add((Kind.GRANT, grant_id))
            return after

        return await self._changed(work, received)

    async def hold(
        self, grant_id: str, event: lease.Freeze | lease.Unfreeze | lease.Revoke | lease.Settle, record: AuditEvent
    ) -> GrantState | None:
        """Run what operators want of a grant, with its event and a new version, in one transaction."""

        async def work(under_way: Change) -> GrantState:
            after = await recovery_steps.by_operators(under_way.connection, grant_id, event)
            if after is None:
                raise Unchanged
            if isinstance(event, lease.Freeze | lease.Revoke):
                await tell_ended(under_way.connection, grant_id, under_way.version)
            under_way.touched.add((Kind.GRANT, grant_id))
            return after

        return await self._changed(work, record)

    async def current_refresh_token(self, grant_id: str) -> StoredRefreshToken | None:
        """Return the sealed current refresh token, or None when the grant never had one."""
        is_current = (tokens.c.grant_id == grants.c.id) & (tokens.c.fingerprint == grants.c.current)
        return await self._token(select(tokens).join(grants, is_current).where(grants.c.id == grant_id))

    async def refresh_token(self, grant_id: str, fingerprint: str) -> StoredRefreshToken | None:
        """Return one sealed refresh token, or None when it is not there or its sealed value is gone."""
        mine = (tokens.c.grant_id == grant_id) & (tokens.c.fingerprint == fingerprint)
        return await self._token(select(tokens).where(mine))

    async def unsettled(self, after: str, limit: int) -> Sequence[str]:
        """Return ids of at most `limit` grants, greater than `after` and in order, that somebody has to move on."""

        async def work(connection: AsyncConnection) -> Sequence[str]:
            found: set[str] = set()
            for condition in UNSETTLED:
                statement = select(grants.c.id).where(condition, grants.c.id > after)
                found.update((await connection.execute(statement.order_by(grants.c.id).limit(limit))).scalars())
            return sorted(found)[:limit]

        return await self.lanes.read(work)

    async def record_attempt(self, record: AttemptRecord) -> None:
        """Note the outcome of an attempt, which closes its send; of a long history the newest lines stay."""
        await self.lanes.write(lambda connection: open_sends.note_outcome(connection, record))

    async def list_attempts(self, grant_id: str, limit: int) -> Sequence[AttemptRecord]:
        """Return the newest attempts first."""
        return await self.lanes.read(lambda connection: open_sends.list_newest(connection, grant_id, limit))

    async def _end_older(self, connection: AsyncConnection, grant_id: str, attempt: int, version: int) -> None:
        await tell_ended(connection, grant_id, version, before=attempt)
        await end_before(connection, grant_id, attempt)
        await raise_version(connection, version, [(Kind.GRANT, grant_id)])

    async def _write_state(
        self, grant_id: str, work: Work[GrantState | None], lane: Lane = Lane.SHARED
    ) -> GrantState | None:
        """Write, and read a commit whose answer was lost back by the row it left."""
        after: list[GrantState | None] = []

        async def remembered(connection: AsyncConnection) -> GrantState | None:
            after[:] = [await work(connection)]
            return after[0]

        async def confirm(connection: AsyncConnection) -> bool:
            return after[0] is None or await grant_row.lock(connection, grant_id) == after[0]

        return await self.lanes.write(remembered, lane=lane, confirm=confirm)

    async def _changed(self, work: Callable[[Change], Awaitable[GrantState]], event: AuditEvent) -> GrantState | None:
        try:
            after, _ = await self.with_keys(lambda: change(self.lanes, work, event))
        except Unchanged:
            return None
        return after

    async def _token(self, statement: Select[Any]) -> StoredRefreshToken | None:
        async def work(connection: AsyncConnection) -> StoredRefreshToken | None:
            row = (await connection.execute(statement)).one_or_none()
            if row is None or row.ciphertext is None:
                return None
            return StoredRefreshToken(row.fingerprint, row.consent, row.attempt, Sealed(row.key_id, row.ciphertext))

        return await self.lanes.read(work)

    async def _one(self, condition: ColumnElement[bool], *, whole: bool) -> Grant | None:
        async def work(connection: AsyncConnection) -> Grant | None:
            row = (await connection.execute(select(grants).where(condition))).mappings().one_or_none()
            if row is None:
                return None
            found = self.verified_grant(row)
            if not whole:
                return found
            kept = await refresh_tokens.list_tokens(connection, found.id)
            open_ = await open_sends.list_open(connection, found.id, found.state.consent)
            return replace(found, state=replace(found.state, tokens=tuple(kept), open_sends=tuple(open_)))

        return await self.with_keys(lambda: self.lanes.read(work))

    async def _set_known(self, connection: AsyncConnection, grant_id: str, known: Mapping[str, str]) -> None:
        row = (await connection.execute(select(grants).where(grants.c.id == grant_id))).mappings().one()
        self.verified_grant(row)
        mac_key_id, mac = self.mac_keys.mac(grant_mac_input({**row, **known}))
        await connection.execute(
            update(grants).where(grants.c.id == grant_id).values(**known, mac_key_id=mac_key_id, mac=mac)
        )


async def _matching(connection: AsyncConnection, pattern: str, limit: int) -> set[str]:
    """Return names that match, reading on from the pattern's literal beginning only as far as it reaches."""
    prefix = literal_prefix(pattern)
    found: set[str] = set()
    condition = grants.c.name >= prefix
    while len(found) < limit:
        page = await _names(connection, condition, _PAGE)
        inside = [name for name in page if name.startswith(prefix)]
        found.update(name for name in inside if matches(pattern, name))
        if len(inside) < _PAGE:
            break
        condition = grants.c.name > page[-1]
    return set(sorted(found)[:limit])


async def _names(connection: AsyncConnection, condition: ColumnElement[bool], limit: int) -> Sequence[str]:
    usable = grants.c.hold.not_in([Hold.REVOKING, Hold.REVOKED])
    statement = select(grants.c.name).where(condition, usable).order_by(grants.c.name).limit(limit)
    return (await connection.execute(statement)).scalars().all()
