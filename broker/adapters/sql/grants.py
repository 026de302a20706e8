"""Grants, their redeem, their sealed refresh tokens, their history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import steps
from broker.adapters.sql.access_tokens import put_redeemed
from broker.adapters.sql.admin import Change, Unchanged, change
from broker.adapters.sql.catalog import forget_changes
from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.counts import read_counts
from broker.adapters.sql.lanes import Lane
from broker.adapters.sql.outbox import has_event, put_event
from broker.adapters.sql.part import Part
from broker.adapters.sql.rows import TOKEN_COLUMNS, fresh_id, grant_mac_input
from broker.adapters.sql.tables import access_tokens, attempts, grants, refresh_tokens
from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.globs import literal_prefix, matches
from broker.core.grant_state import GrantState, Health, Hold, KeptToken
from broker.core.models import Grant, Kind
from broker.core.sealing import Sealed
from broker.ports import AttemptRecord, StoredAccessToken, StoredRefreshToken

_PAGE: Final = 500
"""Names read at a time while looking for those a pattern matches."""

ATTEMPTS_KEPT: Final = 200
"""Lines of a grant's history."""


class SqlGrants(Part):
    """The GrantStore port but for access tokens."""

    async def find_grant(self, name: str) -> Grant | None:
        """Return the grant of this name with its state but not its tokens, or None."""
        return await self._one(grants.c.name == name, with_tokens=False)

    async def get_grant(self, grant_id: str) -> Grant | None:
        """Return the grant of this id with its state and tokens, or None."""
        return await self._one(grants.c.id == grant_id, with_tokens=True)

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

    async def apply(self, grant_id: str, event: lease.Event, *, record: AuditEvent | None = None) -> GrantState | None:
        """Run one step of the redeem; return the row after it without tokens, or None when it did not happen.

        `record` is stored with a step that leaves the grant quarantined.

        Raises:
            StoreUnavailableError: it did not happen, or (causes `commit`, `timeout`) nobody knows.
            TypeError: Land and Consented carry a token and have methods of their own.
        """
        after: list[GrantState | None] = []

        async def work(connection: AsyncConnection) -> GrantState | None:
            state = await steps.run(connection, grant_id, event, self.times)
            if record is not None and state is not None and state.health is Health.QUARANTINED:
                await put_event(connection, fresh_id(), record)
            after[:] = [state]
            return state

        async def confirm(connection: AsyncConnection) -> bool:
            return after[0] is None or await steps.lock(connection, grant_id) == after[0]

        lane = Lane.COMMIT if isinstance(event, lease.Sent | lease.Finish) else Lane.SHARED
        return await self.lanes.write(work, lane=lane, confirm=confirm)

    async def keep_and_land(self, grant_id: str, land: lease.Land, sealed: Sealed, received: AuditEvent) -> GrantState:
        """Insert the received token unconditionally and run Land, in one durable transaction with its event.

        Return the state afterwards; `current == land.fingerprint` tells whether it became the current one. Doing it
        again changes nothing but a second event. A grant removed meanwhile is shown as revoked; the token is kept.
        """
        event_id = fresh_id()

        async def work(connection: AsyncConnection) -> GrantState:
            await steps.keep(connection, grant_id, land.fingerprint, land.consent, land.attempt, sealed)
            after = await steps.land(connection, grant_id, land)
            await put_event(connection, event_id, received)
            return GrantState(hold=Hold.REVOKED) if after is None else after

        async def confirm(connection: AsyncConnection) -> bool:
            stored = await steps.lock(connection, grant_id)
            return (stored is not None and stored.current == land.fingerprint) or await has_event(connection, event_id)

        return await self.lanes.write(work, lane=Lane.COMMIT, confirm=confirm)

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
    ) -> GrantState | None:
        """Insert a first refresh token and run Consented, with its event and a new version; None if fenced off."""

        async def work(under_way: Change) -> GrantState:
            connection = under_way.connection
            before = await steps.lock(connection, grant_id)
            if before is None or (before.consent, before.attempt) != (expected_consent, expected_attempt):
                raise Unchanged
            after = await steps.consented(connection, grant_id, event, before)
            if after is None:
                raise Unchanged
            await steps.keep_anew(connection, grant_id, event.fingerprint, after.consent, after.attempt, sealed)
            if subject is not None:
                await self._set_subject(connection, grant_id, subject)
            under_way.touched.add((Kind.GRANT, grant_id))
            await forget_changes(under_way)
            return after

        try:
            after, _ = await self.with_keys(lambda: change(self.lanes, work, received))
        except Unchanged:
            return None
        return after

    async def current_refresh_token(self, grant_id: str) -> StoredRefreshToken | None:
        """Return the sealed current refresh token, or None when the grant never had one."""

        async def work(connection: AsyncConnection) -> StoredRefreshToken | None:
            is_current = (refresh_tokens.c.grant_id == grants.c.id) & (refresh_tokens.c.fingerprint == grants.c.current)
            statement = select(refresh_tokens).join(grants, is_current).where(grants.c.id == grant_id)
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                return None
            return StoredRefreshToken(row.fingerprint, row.consent, row.attempt, Sealed(row.key_id, row.ciphertext))

        return await self.lanes.read(work)

    async def finish(
        self, grant_id: str, event: lease.Finish, token: StoredAccessToken | None, asked_by: str
    ) -> GrantState | None:
        """Store the access token (only over a lower attempt) and run Finish, in one durable transaction.

        The token is stored even when the lease was lost, which returns None: it is good, and its attempt fences it.
        """
        after: list[GrantState | None] = []

        async def work(connection: AsyncConnection) -> GrantState | None:
            after[:] = [await steps.finish(connection, grant_id, event, self.times)]
            if token is not None:
                await put_redeemed(connection, token, asked_by)
            return after[0]

        async def confirm(connection: AsyncConnection) -> bool:
            stored = await steps.lock(connection, grant_id)
            if token is None:
                return stored == after[0]
            has_token = select(access_tokens.c.token_attempt).where(
                access_tokens.c.grant_id == grant_id, access_tokens.c.token_attempt >= event.attempt
            )
            return (await connection.execute(has_token.limit(1))).one_or_none() is not None

        return await self.lanes.write(work, lane=Lane.COMMIT, confirm=confirm)

    async def record_attempt(self, record: AttemptRecord) -> None:
        """Append to the grant's history, of which the newest ATTEMPTS_KEPT stay."""
        of_grant = attempts.c.grant_id == record.grant_id
        newest = select(attempts.c.number).where(of_grant).order_by(attempts.c.number.desc())
        first_too_many = newest.offset(ATTEMPTS_KEPT).limit(1).scalar_subquery()

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                insert(attempts).values(
                    grant_id=record.grant_id,
                    attempt=record.attempt,
                    owner=record.owner,
                    secret_version=record.secret_version,
                    outcome=record.outcome,
                    cause=record.cause,
                    recorded_at=now_ms(),
                )
            )
            await connection.execute(delete(attempts).where(of_grant, attempts.c.number <= first_too_many))

        await self.lanes.write(work)

    async def list_attempts(self, grant_id: str, limit: int) -> Sequence[AttemptRecord]:
        """Return the newest attempts first."""
        columns = [attempts.c[name] for name in AttemptRecord.__slots__]

        async def work(connection: AsyncConnection) -> Sequence[AttemptRecord]:
            newest = attempts.c.number.desc()
            statement = select(*columns).where(attempts.c.grant_id == grant_id).order_by(newest).limit(limit)
            return [AttemptRecord(*row) for row in await connection.execute(statement)]

        return await self.lanes.read(work)

    async def _one(self, condition: ColumnElement[bool], *, with_tokens: bool) -> Grant | None:
        async def work(connection: AsyncConnection) -> Grant | None:
            row = (await connection.execute(select(grants).where(condition))).mappings().one_or_none()
            if row is None:
                return None
            found = self.verified_grant(row)
            return await _with_tokens(connection, found) if with_tokens else found

        return await self.with_keys(lambda: self.lanes.read(work))

    async def _set_subject(self, connection: AsyncConnection, grant_id: str, subject: str) -> None:
        row = (await connection.execute(select(grants).where(grants.c.id == grant_id))).mappings().one()
        self.verified_grant(row)
        mac_key_id, mac = self.mac_keys.mac(grant_mac_input(dict(row) | {"subject": subject}))
        await connection.execute(
            update(grants).where(grants.c.id == grant_id).values(subject=subject, mac_key_id=mac_key_id, mac=mac)
        )


async def _with_tokens(connection: AsyncConnection, found: Grant) -> Grant:
    statement = (
        select(*TOKEN_COLUMNS)
        .where(refresh_tokens.c.grant_id == found.id)
        .order_by(refresh_tokens.c.received_at, refresh_tokens.c.attempt, refresh_tokens.c.fingerprint)
    )
    tokens = [KeptToken(*row) for row in await connection.execute(statement)]
    return replace(found, state=replace(found.state, tokens=tuple(tokens)))


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
