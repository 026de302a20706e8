"""Cached access tokens, sealed, the leases of client_credentials keys, and tokens that ended before their time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, case, delete, literal, or_, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import grant_row, steps
from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.control import is_named
from broker.adapters.sql.lanes import Lane
from broker.adapters.sql.part import Part
from broker.adapters.sql.rows import insert_into
from broker.adapters.sql.tables import access_tokens as a
from broker.adapters.sql.tables import control, ended_tokens, grants
from broker.core import lease
from broker.core.grant_state import GrantState, Hold, Phase
from broker.core.models import AccessTokenKey
from broker.core.scope_sets import check_one_more
from broker.core.sealing import Sealed
from broker.ports import DueToken, EndedToken, StoredAccessToken

_KEY: Final = (a.c.grant_id, a.c.digest)
_UNEXPIRED: Final = a.c.expires_at > now_ms()
_ALIVE: Final = or_(_UNEXPIRED, a.c.lease_until > now_ms())
_IN_USE: Final = and_(a.c.used_at > 0, a.c.used_at > now_ms() - a.c.life_ms)  # 0: never, however young the clock
_LEFT: Final = ((a.c.expires_at - now_ms()).label("remaining_ms"), (a.c.renew_at - now_ms()).label("renew_ms"))
_KEEP_DEAD_MS: Final = 3_600_000
"""A dead row stays this long, so that whoever held its lease finds the attempt that fences it off."""
_EMPTY: Final[dict[str, Any]] = {
    "token_attempt": -1,
    "fingerprint": "",
    "granted": "",
    "verified": False,
    "life_ms": 0,
    "lifetime_assumed": False,
    "expires_at": 0,
    "used_at": 0,
}


class SqlAccessTokens(Part):
    """The AccessTokenStore port."""

    async def find_access_tokens(self, keys: Sequence[AccessTokenKey]) -> Mapping[AccessTokenKey, StoredAccessToken]:
        """Return live cached tokens for the keys, all in one statement, with what is left of each by the same clock."""
        if not keys:
            return {}

        async def work(connection: AsyncConnection) -> Mapping[AccessTokenKey, StoredAccessToken]:
            wanted = tuple_(*_KEY).in_([_place(key) for key in keys])
            found = [_token(row) for row in await connection.execute(select(a, *_LEFT).where(wanted, _UNEXPIRED))]
            return {token.key: token for token in found}

        return await self.lanes.read(work)

    async def finish(
        self, grant_id: str, event: lease.Finish, token: StoredAccessToken | None, asked_by: str
    ) -> GrantState | None:
        """Store the access token (only over a lower attempt) and run Finish, in one durable transaction.

        The token is stored even when the lease was lost, which returns None: it is good, and its attempt fences it.
        A Finish that was committed without an answer, and is run again, finds the lease it took for whom it names.
        """
        after: list[GrantState | None] = []

        async def work(connection: AsyncConnection) -> GrantState | None:
            state = await steps.finish(connection, grant_id, event, self.times)
            if state is None and event.again is not None:
                state = _taken(await grant_row.lock(connection, grant_id), event)
            if token is not None:
                await _drop_dead(connection, grant_id)
                await _put(connection, token, a.c.attempt < token.attempt, asked_by)
            after[:] = [state]
            return state

        async def confirm(connection: AsyncConnection) -> bool:
            stored = await grant_row.lock(connection, grant_id)
            if token is None:
                return stored == after[0]
            has_token = select(a.c.token_attempt).where(a.c.grant_id == grant_id, a.c.token_attempt >= event.attempt)
            return (await connection.execute(has_token.limit(1))).one_or_none() is not None

        return await self.lanes.write(work, lane=Lane.COMMIT, confirm=confirm)

    async def take_access(self, key: AccessTokenKey, owner: str, asked_by: str) -> int | None:
        """Lease one client_credentials cache key; return the attempt, or None while another owner's lease lives.

        Raises:
            ScopeSetsError: with this key too many of the grant, or of `asked_by`, would be alive.
        """

        async def work(connection: AsyncConnection) -> int | None:
            # The grant's row is locked so that two replicas cannot both take the last free place.
            await connection.execute(select(grants.c.id).where(grants.c.id == key.grant_id).with_for_update())
            check_one_more(await _live_others(connection, key.grant_id, key), asked_by)
            await _drop_dead(connection, key.grant_id)
            leased = {"owner": owner, "lease_until": now_ms() + self.times.lease}
            new = {**_key_columns(key), "attempt": 1, "asked_by": asked_by, **leased, **_EMPTY}
            statement = (
                insert_into(connection, a)
                .values(new)
                .on_conflict_do_update(
                    index_elements=list(_KEY),
                    set_={"attempt": a.c.attempt + 1, "asked_by": _first_asked_by(asked_by), **leased},
                    where=a.c.lease_until <= now_ms(),
                )
                .returning(a.c.attempt)
            )
            attempt: int | None = (await connection.execute(statement)).scalar_one_or_none()
            return attempt

        return await self.lanes.write(work)

    async def put_access(self, token: StoredAccessToken) -> bool:
        """Store a client_credentials token over a lower-or-equal attempt and free the lease; False when fenced off."""

        async def work(connection: AsyncConnection) -> bool:
            return await _put(connection, token, a.c.attempt <= token.attempt)

        async def confirm(connection: AsyncConnection) -> bool:
            statement = select(a.c.token_attempt).where(_is(token.key)).with_for_update()
            return bool((await connection.execute(statement)).scalar_one_or_none() == token.attempt)

        return await self.lanes.write(work, lane=Lane.COMMIT, confirm=confirm)

    async def release_access(self, key: AccessTokenKey, attempt: int) -> None:
        """Free the lease without a token."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                update(a).where(_is(key), a.c.attempt == attempt).values(owner=None, lease_until=now_ms())
            )

        await self.lanes.write(work)

    async def live_scope_sets(self, grant_id: str, now_key: AccessTokenKey) -> Sequence[str]:
        """Return who first asked for each other key of the grant and epoch with an unexpired token or a live lease."""
        return await self.lanes.read(lambda connection: _live_others(connection, grant_id, now_key))

    async def live_access_tokens(self, grant_id: str) -> Sequence[StoredAccessToken]:
        """Return every token of the grant that still lives, of whatever epoch."""

        async def work(connection: AsyncConnection) -> Sequence[StoredAccessToken]:
            statement = select(a, *_LEFT).where(a.c.grant_id == grant_id, _UNEXPIRED).order_by(a.c.digest)
            return [_token(row) for row in await connection.execute(statement)]

        return await self.lanes.read(work)

    async def note_used(self, keys: Sequence[AccessTokenKey]) -> None:
        """Note that tokens of these keys were handed out lately; a row that somebody changes just now is left out."""

        async def work(connection: AsyncConnection) -> None:
            wanted = tuple_(*_KEY).in_([_place(key) for key in keys])
            free = select(*_KEY).where(wanted).with_for_update(skip_locked=True)
            await connection.execute(update(a).where(tuple_(*_KEY).in_(free)).values(used_at=now_ms()))

        if keys:
            await self.lanes.write(work)

    async def due_tokens(self, limit: int, again_ms: int) -> Sequence[DueToken]:
        """Return tokens whose time to be renewed has come and that were handed out within their life.

        Those that end soonest come first. Each is given to one replica: it is due again only after `again_ms`, unless
        it was renewed.
        """

        async def work(connection: AsyncConnection) -> Sequence[DueToken]:
            wanted = and_(grants.c.id == a.c.grant_id, grants.c.epoch == a.c.epoch, grants.c.hold == Hold.NONE)
            due = (
                select(a, *_LEFT, grants.c.name)
                .join(grants, wanted)
                .where(a.c.renew_at <= now_ms(), _UNEXPIRED, _IN_USE)
                .order_by(a.c.expires_at)
                .limit(limit)
                .with_for_update(of=a, skip_locked=True)
            )
            rows = (await connection.execute(due)).all()
            if rows:
                taken = tuple_(*_KEY).in_([(row.grant_id, row.digest) for row in rows])
                await connection.execute(update(a).where(taken).values(renew_at=now_ms() + again_ms))
            return [DueToken(row.name, _key(row), row.fingerprint, row.asked_by, row.remaining_ms) for row in rows]

        return await self.lanes.write(work)

    async def ended_since(self, version: int, limit: int) -> Sequence[EndedToken] | None:
        """Return tokens ended after `version`, in its order; None when too long ago, or too many, to tell."""

        async def work(connection: AsyncConnection) -> Sequence[EndedToken] | None:
            newest = (await connection.execute(select(control.c.version))).scalar_one()
            if not is_named(version, newest):
                return None
            statement = select(ended_tokens).where(ended_tokens.c.version > version)
            in_order = statement.order_by(ended_tokens.c.version, ended_tokens.c.fingerprint).limit(limit + 1)
            rows = (await connection.execute(in_order)).all()
            if len(rows) > limit:
                return None
            return [
                EndedToken(row.version, row.grant_name, row.fingerprint, tuple(row.granted.split())) for row in rows
            ]

        return await self.lanes.read(work)


async def tell_ended(connection: AsyncConnection, grant_id: str, version: int, before: int | None = None) -> None:
    """Note of every token of a grant that still lives that it is not to be used any more, from `version` on.

    `before` leaves out those of that attempt and later ones.
    """
    older = true() if before is None else a.c.token_attempt < before
    ended = (
        select(literal(version), a.c.fingerprint, grants.c.name, a.c.granted)
        .join(grants, grants.c.id == a.c.grant_id)
        .where(a.c.grant_id == grant_id, _UNEXPIRED, older)
    )
    insert = insert_into(connection, ended_tokens).from_select([column.name for column in ended_tokens.c], ended)
    await connection.execute(insert.on_conflict_do_nothing())  # two keys may have got the same token


async def end_before(connection: AsyncConnection, grant_id: str, attempt: int) -> None:
    """End the grant's tokens of earlier attempts: their provider did."""
    older = and_(a.c.grant_id == grant_id, a.c.token_attempt < attempt, _UNEXPIRED)
    await connection.execute(update(a).where(older).values(expires_at=now_ms(), renew_at=None))


def digest_of(key: AccessTokenKey) -> str:
    """Return what stands for a key within its grant: its parts may be longer than an index takes."""
    parts = json.dumps([key.epoch, key.client_id, list(key.wire_scopes), key.resource])
    return hashlib.sha256(parts.encode()).hexdigest()


def _taken(state: GrantState | None, event: lease.Finish) -> GrantState | None:
    mine = state is not None and (state.phase, state.attempt, state.owner) == (
        Phase.PREPARED,
        event.attempt + 1,
        event.again,
    )
    return state if mine else None


async def _put(
    connection: AsyncConnection, token: StoredAccessToken, fence: ColumnElement[bool], asked_by: str | None = None
) -> bool:
    """Store a token where the fence allows it; without `asked_by` the row is there and says who asked."""
    values: dict[str, Any] = {
        "attempt": token.attempt,
        "token_attempt": token.attempt,
        "key_id": token.sealed.key_id,
        "ciphertext": token.sealed.ciphertext,
        "fingerprint": token.fingerprint,
        "granted": " ".join(token.granted),
        "verified": token.verified,
        "life_ms": token.life_ms,
        "lifetime_assumed": token.lifetime_assumed,
        "expires_at": now_ms() + token.remaining_ms,
        "renew_at": None if token.renew_ms is None else now_ms() + token.renew_ms,
        "owner": None,
        "lease_until": now_ms(),
    }
    insert = insert_into(connection, a).values(**_key_columns(token.key), **values, asked_by=asked_by or "", used_at=0)
    kept = {} if asked_by is None else {"asked_by": _first_asked_by(asked_by)}
    statement = insert.on_conflict_do_update(index_elements=list(_KEY), set_=values | kept, where=fence)
    return (await connection.execute(statement.returning(a.c.attempt))).one_or_none() is not None


def _first_asked_by(asked_by: str) -> ColumnElement[str]:
    """Return who asked for a key: whoever did while it was alive, else who does now."""
    return case((_UNEXPIRED, a.c.asked_by), else_=asked_by)


async def _live_others(connection: AsyncConnection, grant_id: str, key: AccessTokenKey) -> Sequence[str]:
    # Keys of another epoch do not count: their tokens are not served any more.
    others = and_(a.c.grant_id == grant_id, a.c.epoch == key.epoch, a.c.digest != digest_of(key))
    return (await connection.execute(select(a.c.asked_by).where(others, _ALIVE))).scalars().all()


async def _drop_dead(connection: AsyncConnection, grant_id: str) -> None:
    long_ago = now_ms() - _KEEP_DEAD_MS
    await connection.execute(
        delete(a).where(a.c.grant_id == grant_id, a.c.expires_at < long_ago, a.c.lease_until < long_ago)
    )


def _place(key: AccessTokenKey) -> tuple[str, str]:
    return (key.grant_id, digest_of(key))


def _key_columns(key: AccessTokenKey) -> dict[str, Any]:
    return {
        "grant_id": key.grant_id,
        "digest": digest_of(key),
        "epoch": key.epoch,
        "client_id": key.client_id,
        "scopes": " ".join(key.wire_scopes),
        "resource": key.resource,
    }


def _is(key: AccessTokenKey) -> ColumnElement[bool]:
    return and_(a.c.grant_id == key.grant_id, a.c.digest == digest_of(key))


def _key(row: Row[Any]) -> AccessTokenKey:
    return AccessTokenKey(row.grant_id, row.epoch, row.client_id, tuple(row.scopes.split()), row.resource)


def _token(row: Row[Any]) -> StoredAccessToken:
    return StoredAccessToken(
        key=_key(row),
        attempt=row.token_attempt,
        sealed=Sealed(row.key_id, row.ciphertext),
        fingerprint=row.fingerprint,
        granted=tuple(row.granted.split()),
        verified=row.verified,
        life_ms=row.life_ms,
        remaining_ms=row.remaining_ms,
        renew_ms=row.renew_ms,
        lifetime_assumed=row.lifetime_assumed,
    )
