"""Cached access tokens, sealed, and the leases of client_credentials keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, case, delete, not_, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.lanes import Lane
from broker.adapters.sql.part import Part
from broker.adapters.sql.rows import insert_into
from broker.adapters.sql.tables import access_tokens as a
from broker.adapters.sql.tables import grants
from broker.core.models import AccessTokenKey
from broker.core.scope_sets import check_one_more
from broker.core.sealing import Sealed
from broker.ports import StoredAccessToken

_KEY: Final = (a.c.grant_id, a.c.epoch, a.c.client_id, a.c.scopes, a.c.resource)
_ALIVE: Final = or_(a.c.expires_at > now_ms(), a.c.lease_until > now_ms())
_KEEP_DEAD_MS: Final = 3_600_000
"""A dead row stays this long, so that whoever held its lease finds the attempt that fences it off."""
_EMPTY: Final[dict[str, Any]] = {
    "token_attempt": -1,
    "granted": "",
    "verified": False,
    "life_ms": 0,
    "lifetime_assumed": False,
    "expires_at": 0,
}


class SqlAccessTokens(Part):
    """The access token methods of the GrantStore port."""

    async def find_access_tokens(self, keys: Sequence[AccessTokenKey]) -> Mapping[AccessTokenKey, StoredAccessToken]:
        """Return live cached tokens for the keys, all in one statement, with what is left of each by the same clock."""
        if not keys:
            return {}

        async def work(connection: AsyncConnection) -> Mapping[AccessTokenKey, StoredAccessToken]:
            statement = select(a, (a.c.expires_at - now_ms()).label("remaining_ms")).where(
                tuple_(*_KEY).in_([_key_values(key) for key in keys]), a.c.expires_at > now_ms()
            )
            found = [_token(row) for row in await connection.execute(statement)]
            return {token.key: token for token in found}

        return await self.lanes.read(work)

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

    async def extend_access(self, key: AccessTokenKey, attempt: int) -> bool:
        """Keep that lease; False when it is no longer ours."""

        async def work(connection: AsyncConnection) -> bool:
            statement = (
                update(a)
                .where(_is(key), a.c.attempt == attempt, a.c.owner.is_not(None))
                .values(lease_until=now_ms() + self.times.lease)
                .returning(a.c.attempt)
            )
            return (await connection.execute(statement)).one_or_none() is not None

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

        async def work(connection: AsyncConnection) -> Sequence[str]:
            return await _live_others(connection, grant_id, now_key)

        return await self.lanes.read(work)


async def put_redeemed(connection: AsyncConnection, token: StoredAccessToken, asked_by: str) -> bool:
    """Store a redeemed token over a lower attempt only; tell whether it was stored."""
    await _drop_dead(connection, token.key.grant_id)
    return await _put(connection, token, a.c.attempt < token.attempt, asked_by)


async def _put(
    connection: AsyncConnection, token: StoredAccessToken, fence: ColumnElement[bool], asked_by: str | None = None
) -> bool:
    """Store a token where the fence allows it; without `asked_by` the row is there and says who asked."""
    values: dict[str, Any] = {
        "attempt": token.attempt,
        "token_attempt": token.attempt,
        "key_id": token.sealed.key_id,
        "ciphertext": token.sealed.ciphertext,
        "granted": " ".join(token.granted),
        "verified": token.verified,
        "life_ms": token.life_ms,
        "lifetime_assumed": token.lifetime_assumed,
        "expires_at": now_ms() + token.remaining_ms,
        "owner": None,
        "lease_until": now_ms(),
    }
    insert = insert_into(connection, a).values(**_key_columns(token.key), **values, asked_by=asked_by)
    kept = {} if asked_by is None else {"asked_by": _first_asked_by(asked_by)}
    statement = insert.on_conflict_do_update(index_elements=list(_KEY), set_=values | kept, where=fence)
    return (await connection.execute(statement.returning(a.c.attempt))).one_or_none() is not None


def _first_asked_by(asked_by: str) -> ColumnElement[str]:
    """Return who asked for a key: whoever did while it was alive, else who does now."""
    return case((a.c.expires_at > now_ms(), a.c.asked_by), else_=asked_by)


async def _live_others(connection: AsyncConnection, grant_id: str, key: AccessTokenKey) -> Sequence[str]:
    # Keys of another epoch do not count: their tokens are not served any more.
    statement = select(a.c.asked_by).where(a.c.grant_id == grant_id, a.c.epoch == key.epoch, not_(_is(key)), _ALIVE)
    return [asked_by or "" for asked_by in (await connection.execute(statement)).scalars()]


async def _drop_dead(connection: AsyncConnection, grant_id: str) -> None:
    long_ago = now_ms() - _KEEP_DEAD_MS
    await connection.execute(
        delete(a).where(a.c.grant_id == grant_id, a.c.expires_at < long_ago, a.c.lease_until < long_ago)
    )


def _key_values(key: AccessTokenKey) -> tuple[str, int, str, str, str]:
    return (key.grant_id, key.epoch, key.client_id, " ".join(key.wire_scopes), key.resource)


def _key_columns(key: AccessTokenKey) -> dict[str, Any]:
    return {column.name: value for column, value in zip(_KEY, _key_values(key), strict=True)}


def _is(key: AccessTokenKey) -> ColumnElement[bool]:
    return and_(*(column == value for column, value in zip(_KEY, _key_values(key), strict=True)))


def _token(row: Row[Any]) -> StoredAccessToken:
    return StoredAccessToken(
        key=AccessTokenKey(row.grant_id, row.epoch, row.client_id, tuple(row.scopes.split()), row.resource),
        attempt=row.token_attempt,
        sealed=Sealed(row.key_id, row.ciphertext),
        granted=tuple(row.granted.split()),
        verified=row.verified,
        life_ms=row.life_ms,
        remaining_ms=row.remaining_ms,
        lifetime_assumed=row.lifetime_assumed,
    )
