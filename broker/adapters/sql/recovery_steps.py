"""Steps of those who find a grant in doubt, and of those who end it; see `steps`."""

from __future__ import annotations

from typing import assert_never

from sqlalchemy import and_, case, exists, func, not_, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import refresh_tokens
from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.grant_row import (
    IN_WINDOW,
    LEASE_OVER,
    MAY_BEGIN,
    NO_DOUBT,
    NOT_ENDED,
    Condition,
    lock,
    move,
    move_counted,
    read,
)
from broker.adapters.sql.refresh_tokens import HAS_NO_NEW
from broker.adapters.sql.tables import grants as g
from broker.adapters.sql.tables import suspects
from broker.core import lease
from broker.core.grant_state import GrantState, Health, Hold, Phase, RedeemTimes


async def adopt(connection: AsyncConnection, grant_id: str) -> GrantState | None:
    """Turn to the newest token never sent; the one it replaces stays in doubt unless it is spent and out of window."""
    before = await lock(connection, grant_id)
    newest = await refresh_tokens.newest_new(connection, grant_id)
    if before is None or newest is None:
        return None
    fingerprint, generation = newest
    replaced = await refresh_tokens.sent_at(connection, grant_id, before.current)
    fate_open = before.phase is Phase.UNKNOWN and replaced is not None and generation != before.generation
    return await move_counted(
        connection,
        grant_id,
        before,
        or_(g.c.phase == Phase.UNKNOWN, and_(g.c.phase == Phase.IDLE, g.c.health == Health.QUARANTINED)),
        NOT_ENDED,
        **_turned_to(fingerprint),
        phase=Phase.IDLE,
        not_before=0,
        doubted=g.c.current if fate_open else func.coalesce(g.c.doubted, case((IN_WINDOW, g.c.current))),
        **NO_DOUBT,
    )


async def turn_to(connection: AsyncConnection, grant_id: str, fingerprint: str, **values: object) -> GrantState | None:
    """Make a token current in a row that is locked."""
    return await move(connection, grant_id, **(_turned_to(fingerprint) | values))


def _turned_to(fingerprint: str) -> dict[str, object]:
    return {
        "current": fingerprint,
        "generation": g.c.generation + 1,
        "attempt": g.c.attempt + 1,
        "health": Health.OK,
    }


async def replay(
    connection: AsyncConnection, grant_id: str, event: lease.Replay, times: RedeemTimes
) -> GrantState | None:
    """Lease a grant in doubt to send the same token again, inside the provider's window."""
    return await _lease_again(
        connection, grant_id, IN_WINDOW, g.c.sends < lease.MAX_SENDS, owner=event.owner, probes=g.c.probes, times=times
    )


async def probe(
    connection: AsyncConnection, grant_id: str, event: lease.Probe, times: RedeemTimes
) -> GrantState | None:
    """Lease a grant in doubt to send the token once more, because nothing else can tell its fate."""
    if not event.settled:
        return None
    return await _lease_again(connection, grant_id, not_(IN_WINDOW), owner=event.owner, probes=1, times=times)


async def _lease_again(
    connection: AsyncConnection,
    grant_id: str,
    *conditions: Condition,
    owner: str,
    probes: object,
    times: RedeemTimes,
) -> GrantState | None:
    return await move_counted(
        connection,
        grant_id,
        await lock(connection, grant_id),
        g.c.phase == Phase.UNKNOWN,
        *MAY_BEGIN,
        HAS_NO_NEW,
        *conditions,
        phase=Phase.PREPARED,
        attempt=g.c.attempt + 1,
        owner=owner,
        lease_until=now_ms() + times.lease,
        probes=probes,
    )


async def by_operators(
    connection: AsyncConnection, grant_id: str, event: lease.Freeze | lease.Unfreeze | lease.Revoke | lease.Settle
) -> GrantState | None:
    """Hold a grant, let it go, end it, or say that nothing will come of its sends."""
    before = await lock(connection, grant_id)
    match event:
        case lease.Freeze():
            return await move_counted(connection, grant_id, before, g.c.hold == Hold.NONE, hold=Hold.FROZEN)
        case lease.Unfreeze():
            no_suspect = not_(exists().where(suspects.c.grant_id == g.c.id))
            return await move_counted(connection, grant_id, before, g.c.hold == Hold.FROZEN, no_suspect, hold=Hold.NONE)
        case lease.Revoke():
            return await move_counted(connection, grant_id, before, NOT_ENDED, hold=Hold.REVOKING, epoch=g.c.epoch + 1)
        case lease.Settle():
            return await move(connection, grant_id, g.c.phase == Phase.UNKNOWN, settled_at=now_ms())
        case _:
            assert_never(event)


async def release(connection: AsyncConnection, grant_id: str, event: lease.Release) -> GrantState | None:
    """Let a suspect go on from its evidence, with the token it has or with none."""
    abandoned = {"current": None, "doubted": None, "phase": Phase.IDLE, "health": Health.OK, **NO_DOUBT}
    return await move_counted(
        connection,
        grant_id,
        await lock(connection, grant_id),
        g.c.hold == Hold.FROZEN,
        hold=Hold.NONE,
        attempt=case((g.c.attempt < event.attempt, event.attempt), else_=g.c.attempt),
        generation=case((g.c.generation < event.generation, event.generation), else_=g.c.generation),
        **(abandoned if event.abandon else {}),
    )


async def token_revoked(connection: AsyncConnection, grant_id: str, event: lease.TokenRevoked) -> GrantState | None:
    """Note that the provider was told of a token; its sealed value is gone."""
    told = await refresh_tokens.mark_revoked(connection, grant_id, event.fingerprint)
    return await read(connection, grant_id) if told else None


async def revoked(connection: AsyncConnection, grant_id: str) -> GrantState | None:
    """End what nobody works on and of which the provider was told everything."""
    under_way = and_(g.c.phase.in_([Phase.PREPARED, Phase.SENT]), not_(LEASE_OVER))
    await lock(connection, grant_id)
    return await move(
        connection,
        grant_id,
        g.c.hold == Hold.REVOKING,
        not_(under_way),
        not_(refresh_tokens.has_to_be_revoked(g.c.id)),
        hold=Hold.REVOKED,
    )
