"""The redeem's steps as statements: each a one-row UPDATE with exactly the condition the core's table gives it.

No row hit means that the step did not happen. A step's statements run in one transaction of the caller's.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, case, func, null, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import open_sends, recovery_steps, refresh_tokens
from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.counts import move_counts
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
)
from broker.adapters.sql.tables import grants as g
from broker.core import lease
from broker.core.grant_state import GrantState, Health, Hold, Phase, RedeemTimes

_UNDER_WAY: Final = (Phase.SENT, Phase.UNKNOWN)


async def run(  # noqa: C901, PLR0911, PLR0912 - one branch per step of the table
    connection: AsyncConnection, grant_id: str, event: lease.Event, times: RedeemTimes
) -> GrantState | None:
    """Run one step that needs no method of its own; return the row after it, or None when it did not happen."""
    match event:
        case lease.Take():
            return await take(connection, grant_id, event, times)
        case lease.Extend():
            return await extend(connection, grant_id, event, times)
        case lease.NotRotated():
            return await not_rotated(connection, grant_id, event)
        case lease.NotSent():
            return await not_sent(connection, grant_id, event)
        case lease.NotConsumed():
            return await not_consumed(connection, grant_id, event)
        case lease.Refused():
            return await refused(connection, grant_id, event)
        case lease.Unknown():
            return await unknown(connection, grant_id, event)
        case lease.Finish():
            return await finish(connection, grant_id, event, times)
        case lease.Adopt():
            return await recovery_steps.adopt(connection, grant_id)
        case lease.Replay():
            return await recovery_steps.replay(connection, grant_id, event, times)
        case lease.TokenRevoked():
            return await recovery_steps.token_revoked(connection, grant_id, event)
        case lease.Revoked():
            return await recovery_steps.revoked(connection, grant_id)
        case _:
            msg = f"{type(event).__name__} has a method of its own"
            raise TypeError(msg)


async def take(connection: AsyncConnection, grant_id: str, event: lease.Take, times: RedeemTimes) -> GrantState | None:
    """Lease an idle grant, or one whose owner prepared or landed and went away."""
    return await move(
        connection,
        grant_id,
        *MAY_BEGIN,
        g.c.first_sent_at.is_(None),
        or_(g.c.phase == Phase.IDLE, and_(g.c.phase.in_([Phase.PREPARED, Phase.LANDED]), LEASE_OVER)),
        phase=Phase.PREPARED,
        attempt=g.c.attempt + 1,
        owner=event.owner,
        lease_until=now_ms() + times.lease,
    )


async def extend(
    connection: AsyncConnection, grant_id: str, event: lease.Extend, times: RedeemTimes
) -> GrantState | None:
    """Keep the lease."""
    return await move(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        g.c.phase.in_([Phase.PREPARED, Phase.SENT, Phase.LANDED]),
        lease_until=now_ms() + times.lease,
    )


async def sent(connection: AsyncConnection, grant_id: str, event: lease.Sent, times: RedeemTimes) -> GrantState | None:
    """Give the licence to write, and note on the token that it was sent."""
    window_end = null() if event.replay_for is None else now_ms() + event.replay_for
    after = await move(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        g.c.phase == Phase.PREPARED,
        g.c.generation == event.generation,
        g.c.hold == Hold.NONE,
        g.c.lease_until > now_ms(),
        or_(g.c.first_sent_at.is_(None), g.c.probes > 0, IN_WINDOW),
        phase=Phase.SENT,
        first_sent_at=func.coalesce(g.c.first_sent_at, now_ms()),
        replay_until=func.coalesce(g.c.replay_until, window_end),
        last_sent_at=now_ms(),
        sends=g.c.sends + 1,
        lease_until=now_ms() + times.lease,
    )
    if after is not None:
        await refresh_tokens.mark_sent(connection, grant_id, after.current, after.first_sent_at)
    return after


async def land(connection: AsyncConnection, grant_id: str, event: lease.Land, before: GrantState) -> GrantState:
    """Make a kept token current, where the fences allow it; `before` is the locked row. No condition on the lease."""
    mine = g.c.attempt == event.attempt
    after = await move_counted(
        connection,
        grant_id,
        before,
        g.c.generation == event.generation,
        g.c.consent == event.consent,
        NOT_ENDED,
        or_(mine, g.c.phase != Phase.SENT),
        current=event.fingerprint,
        doubted=None,
        generation=g.c.generation + 1,
        phase=case((mine, Phase.LANDED), else_=Phase.IDLE),
        attempt=case((mine, g.c.attempt), else_=g.c.attempt + 1),
        landed=case((g.c.landed < event.attempt, event.attempt), else_=g.c.landed),
        health=Health.OK,
        failures=0,
        **NO_DOUBT,
    )
    return after or before


async def not_rotated(connection: AsyncConnection, grant_id: str, event: lease.NotRotated) -> GrantState | None:
    """Land without a new token: the doubt is gone, also one that others declared, and the current token stays."""
    return await move_counted(
        connection,
        grant_id,
        await lock(connection, grant_id),
        *_own_send(event.attempt),
        phase=Phase.LANDED,
        doubted=None,
        landed=event.attempt,
        failures=0,
        **NO_DOUBT,
    )


def _own_send(attempt: int) -> tuple[Condition, Condition]:
    return (g.c.attempt == attempt, g.c.phase.in_(_UNDER_WAY))


async def not_sent(connection: AsyncConnection, grant_id: str, event: lease.NotSent) -> GrantState | None:
    """Give the lease back; a send that did not happen is not counted, and a first one is taken back."""
    before = await lock(connection, grant_id)
    counted = open_sends.has_open(event.attempt)
    left = g.c.sends - case((counted, 1), else_=0)
    after = await _give_back(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        or_(g.c.phase == Phase.PREPARED, and_(counted, g.c.phase.in_(_UNDER_WAY))),
        before=before,
        sends=left,
        back_off=event.back_off,
    )
    if after is None or before is None:
        return None
    was_counted = await open_sends.close_unsent(connection, grant_id, event.attempt, before.consent)
    if was_counted and before.sends == 1:
        await refresh_tokens.mark_unsent(connection, grant_id, before.current, before.first_sent_at)
    return after


async def not_consumed(connection: AsyncConnection, grant_id: str, event: lease.NotConsumed) -> GrantState | None:
    """Give the lease back; the send stays counted, and earlier ones in doubt."""
    before = await lock(connection, grant_id)
    return await _give_back(
        connection,
        grant_id,
        *_own_send(event.attempt),
        before=before,
        sends=case((g.c.sends > 1, g.c.sends), else_=0),
        back_off=event.back_off,
    )


async def _give_back(
    connection: AsyncConnection,
    grant_id: str,
    *conditions: Condition,
    before: GrantState | None,
    sends: ColumnElement[int],
    back_off: int,
) -> GrantState | None:
    in_doubt = sends > 0
    return await move_counted(
        connection,
        grant_id,
        before,
        *conditions,
        phase=case((in_doubt, Phase.UNKNOWN), else_=Phase.IDLE),
        sends=case((in_doubt, sends), else_=0),
        probes=0,
        first_sent_at=case((in_doubt, g.c.first_sent_at), else_=null()),
        replay_until=case((in_doubt, g.c.replay_until), else_=null()),
        not_before=now_ms() + back_off,
        failures=g.c.failures + 1 if back_off else g.c.failures,
    )


async def refused(connection: AsyncConnection, grant_id: str, event: lease.Refused) -> GrantState | None:
    """Mark the current token refused and turn to the newest never sent one, or the doubted one; else quarantine."""
    before = await lock(connection, grant_id)
    after = await move(
        connection,
        grant_id,
        *_own_send(event.attempt),
        g.c.generation == event.generation,
        g.c.consent == event.consent,
        phase=Phase.IDLE,
        **NO_DOUBT,
    )
    if after is None:
        return None
    await refresh_tokens.mark_refused(connection, grant_id, after.current)
    after = await _succeed(connection, grant_id, after, event.replay_for)
    await move_counts(connection, before, after)
    return after


async def _succeed(
    connection: AsyncConnection, grant_id: str, refused_state: GrantState, replay_for: int | None
) -> GrantState | None:
    """Make another token current, or quarantine the grant; the row is locked already."""
    newest = await refresh_tokens.newest_new(connection, grant_id)
    if newest is not None:
        return await recovery_steps.turn_to(connection, grant_id, newest[0])
    doubted = refused_state.doubted
    sent = None if doubted is None else await refresh_tokens.sent_at(connection, grant_id, doubted)
    if doubted is None or sent is None:
        return await move(connection, grant_id, health=Health.QUARANTINED)
    # A time before 0 is of another boot, and tells nothing.
    until = None if replay_for is None or sent[0] is None or sent[0] < 0 else sent[0] + replay_for
    if await refresh_tokens.was_exchanged(connection, grant_id, doubted):
        quarantined = await move(connection, grant_id, now_ms() >= (until or 0), health=Health.QUARANTINED)
        if quarantined is not None:
            return quarantined
    again = {"doubted": None, "phase": Phase.UNKNOWN, "first_sent_at": sent[0], "replay_until": until, "sends": 1}
    return await recovery_steps.turn_to(connection, grant_id, doubted, **again)


async def unknown(connection: AsyncConnection, grant_id: str, event: lease.Unknown) -> GrantState | None:
    """Say that nobody knows what became of the send."""
    if event.attempt is None:
        in_doubt = or_(g.c.phase == Phase.SENT, and_(g.c.phase == Phase.PREPARED, g.c.first_sent_at.is_not(None)))
        happens = and_(in_doubt, LEASE_OVER)
    else:
        happens = and_(g.c.phase == Phase.SENT, g.c.attempt == event.attempt)
    wait = now_ms() + event.back_off
    return await move_counted(
        connection,
        grant_id,
        await lock(connection, grant_id),
        happens,
        phase=Phase.UNKNOWN,
        probes=case((g.c.phase == Phase.PREPARED, 0), else_=g.c.probes),
        not_before=case((g.c.not_before < wait, wait), else_=g.c.not_before),
    )


async def finish(
    connection: AsyncConnection, grant_id: str, event: lease.Finish, times: RedeemTimes
) -> GrantState | None:
    """Free a landed lease, and take the grant again for whom the event names."""
    idle = await move(connection, grant_id, g.c.attempt == event.attempt, g.c.phase == Phase.LANDED, phase=Phase.IDLE)
    if idle is None or event.again is None:
        return idle
    return await take(connection, grant_id, lease.Take(event.again), times) or idle


async def consented(
    connection: AsyncConnection, grant_id: str, event: lease.Consented, before: GrantState
) -> GrantState | None:
    """Begin a new consent with its first token; `before` is the locked row the token was sealed for."""
    return await move_counted(
        connection,
        grant_id,
        before,
        g.c.hold == Hold.NONE,
        g.c.consent == before.consent,
        g.c.attempt == before.attempt,
        consent=g.c.consent + 1,
        generation=g.c.generation + 1,
        epoch=g.c.epoch + 1,
        attempt=g.c.attempt + 1,
        current=event.fingerprint,
        doubted=None,
        phase=Phase.IDLE,
        health=Health.OK,
        not_before=0,
        failures=0,
        **NO_DOUBT,
    )
