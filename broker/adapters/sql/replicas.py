"""The processes of the broker: that they live, which leases they keep, when their journals were empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, delete, exists, not_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.access_tokens import digest_of
from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.part import Part
from broker.adapters.sql.rows import insert_into
from broker.adapters.sql.tables import access_tokens as a
from broker.adapters.sql.tables import attempts, grants, replicas
from broker.core.grant_state import Phase
from broker.core.models import AccessTokenKey
from broker.core.settled import Replica

AT_ONCE: Final = 500
"""Leases extended by one statement."""

_GONE_MS: Final = 3_600_000
"""A process silent for so long, of whose sends none is open, is forgotten."""


class SqlReplicas(Part):
    """The ReplicaStore port."""

    async def beat(
        self,
        owner: str,
        volume: str,
        leases: Sequence[tuple[str, int]],
        access_leases: Sequence[tuple[AccessTokenKey, int]],
    ) -> None:
        """Note that `owner`, whose journal lies on `volume`, lives, and extend its leases, in one transaction.

        A row that somebody else changes at this moment is left to the next beat: nobody waits for anybody.
        """
        mine = [(key.grant_id, digest_of(key), attempt) for key, attempt in access_leases]

        async def work(connection: AsyncConnection) -> None:
            insert = insert_into(connection, replicas).values(owner=owner, volume=volume, beat_at=now_ms())
            await connection.execute(
                insert.on_conflict_do_update(index_elements=["owner"], set_={"beat_at": now_ms(), "volume": volume})
            )
            await connection.execute(delete(replicas).where(_GONE, replicas.c.owner != owner))
            until = now_ms() + self.times.lease
            under_way = grants.c.phase.in_([Phase.PREPARED, Phase.SENT, Phase.LANDED])
            await _extend(connection, grants, ("id", "attempt"), leases, under_way, until)
            await _extend(connection, a, ("grant_id", "digest", "attempt"), mine, a.c.owner.is_not(None), until)

        await self.lanes.write(work)

    async def drained(self, owner: str) -> None:
        """Note that the journal on the owner's volume was found empty."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(replicas).where(replicas.c.owner == owner).values(drained_at=now_ms()))

        await self.lanes.write(work)


_GONE: Final = and_(
    replicas.c.beat_at < now_ms() - _GONE_MS,
    not_(exists().where(attempts.c.owner == replicas.c.owner, attempts.c.outcome == "").correlate(replicas)),
)


async def list_replicas(connection: AsyncConnection, owners: Sequence[str]) -> Sequence[Replica]:
    """Return what is known of these processes and of all that share a volume with one of them."""
    volumes = select(replicas.c.volume).where(replicas.c.owner.in_(owners)).scalar_subquery()
    statement = select(replicas).where(replicas.c.volume.in_(volumes))
    return [Replica(row.owner, row.volume, row.beat_at, row.drained_at) for row in await connection.execute(statement)]


async def _extend(  # noqa: PLR0913 - a table's leases
    connection: AsyncConnection,
    table: Table,
    columns: tuple[str, ...],
    leases: Sequence[tuple[Any, ...]],
    condition: ColumnElement[bool],
    until: ColumnElement[int],
) -> None:
    whole = tuple_(*(table.c[name] for name in columns))
    key = tuple_(*table.primary_key)
    for start in range(0, len(leases), AT_ONCE):
        ours = select(*table.primary_key).where(whole.in_(leases[start : start + AT_ONCE]), condition)
        free = ours.with_for_update(skip_locked=True)
        await connection.execute(update(table).where(key.in_(free)).values(lease_until=until))
