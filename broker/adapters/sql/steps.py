"""The redeem's steps as statements: each a one-row UPDATE with exactly the condition the core's table gives it.

No row hit means that the step did not happen. A step's statements run in one transaction of the caller's.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

from sqlalchemy import ColumnElement, and_, case, func, null, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.counts import move_counts
from broker.adapters.sql.rows import STATE_COLUMNS, grant_state, insert_into
from broker.adapters.sql.tables import grants as g
from broker.adapters.sql.tables import refresh_tokens as t
from broker.core import lease
from broker.core.grant_state import GrantState, Health, Hold, Phase, RedeemTimes
from broker.core.sealing import Sealed

Condition = ColumnElement[bool]

_LEASE_OVER: Final = g.c.lease_until <= now_ms()
_NOTHING_IN_DOUBT: Final[dict[str, Any]] = {"first_sent_at": None, "replay_until": None, "sends": 0, "probes": 0}
_TOKEN_KEY: Final = ("grant_id", "fingerprint")


async def run(  # noqa: C901, PLR0911 - one branch per step of the table
    connection: AsyncConnection, grant_id: str, event: lease.Event, times: RedeemTimes
) -> GrantState | None:
    """Run one step; return the row after it, or None when it did not happen."""
    match event:
        case lease.Take():
            return await take(connection, grant_id, event, times)
        case lease.Extend():
            return await extend(connection, grant_id, event, times)
        case lease.Sent():
            return await sent(connection, grant_id, event, times)
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
        case lease.Land() | lease.Consented():
            msg = f"{type(event).__name__} carries a token: it has a method of its own"
            raise TypeError(msg)
        case _:
            assert_never(event)


async def lock(connection: AsyncConnection, grant_id: str) -> GrantState | None:
    """Return the row as it is and keep others from changing it until the transaction ends."""
    statement = select(*STATE_COLUMNS).where(g.c.id == grant_id).with_for_update()
    row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else grant_state(row)


async def take(connection: AsyncConnection, grant_id: str, event: lease.Take, times: RedeemTimes) -> GrantState | None:
    """Lease an idle grant, or one whose owner prepared or landed and went away."""
    return await _update(
        connection,
        grant_id,
        g.c.current.is_not(None),
        g.c.hold == Hold.NONE,
        g.c.health == Health.OK,
        g.c.first_sent_at.is_(None),
        g.c.not_before <= now_ms(),
        or_(g.c.phase == Phase.IDLE, and_(g.c.phase.in_([Phase.PREPARED, Phase.LANDED]), _LEASE_OVER)),
        phase=Phase.PREPARED,
        attempt=g.c.attempt + 1,
        owner=event.owner,
        lease_until=now_ms() + times.lease,
    )


async def extend(
    connection: AsyncConnection, grant_id: str, event: lease.Extend, times: RedeemTimes
) -> GrantState | None:
    """Keep the lease."""
    return await _update(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        g.c.phase.in_([Phase.PREPARED, Phase.SENT, Phase.LANDED]),
        lease_until=now_ms() + times.lease,
    )


async def sent(connection: AsyncConnection, grant_id: str, event: lease.Sent, times: RedeemTimes) -> GrantState | None:
    """Give the licence to write, and note on the token that it was sent."""
    window_end = null() if event.replay_for is None else now_ms() + event.replay_for
    after = await _update(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        g.c.phase == Phase.PREPARED,
        g.c.generation == event.generation,
        g.c.hold == Hold.NONE,
        g.c.lease_until > now_ms(),
        phase=Phase.SENT,
        first_sent_at=func.coalesce(g.c.first_sent_at, now_ms()),
        replay_until=func.coalesce(g.c.replay_until, window_end),
        sends=g.c.sends + 1,
        lease_until=now_ms() + times.lease,
    )
    if after is not None:
        await connection.execute(
            update(t)
            .where(t.c.grant_id == grant_id, t.c.fingerprint == after.current, t.c.first_sent_at.is_(None))
            .values(first_sent_at=after.first_sent_at)
        )
    return after


async def not_rotated(connection: AsyncConnection, grant_id: str, event: lease.NotRotated) -> GrantState | None:
    """Land without a new token: the doubt is gone, also one that others declared, and the current token stays."""
    before = await lock(connection, grant_id)
    after = await _update(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        g.c.phase.in_([Phase.SENT, Phase.UNKNOWN]),
        phase=Phase.LANDED,
        **_NOTHING_IN_DOUBT,
    )
    if after is not None:
        await move_counts(connection, before, after)
    return after


async def not_sent(connection: AsyncConnection, grant_id: str, event: lease.NotSent) -> GrantState | None:
    """Give the lease back; a send that did not happen is not counted, and a first one is taken back."""
    before = await lock(connection, grant_id)
    left = case((g.c.phase == Phase.SENT, g.c.sends - 1), else_=g.c.sends)
    after = await _give_back(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        g.c.phase.in_([Phase.PREPARED, Phase.SENT]),
        before=before,
        sends=left,
        in_doubt=left > 0,
        back_off=event.back_off,
    )
    if after is not None and before is not None and (before.phase, before.sends) == (Phase.SENT, 1):
        is_current = (t.c.grant_id == grant_id) & (t.c.fingerprint == before.current)
        # A time of its own tells an earlier send, which was written.
        unsent = update(t).where(is_current, t.c.first_sent_at == before.first_sent_at).values(first_sent_at=None)
        await connection.execute(unsent)
    return after


async def not_consumed(connection: AsyncConnection, grant_id: str, event: lease.NotConsumed) -> GrantState | None:
    """Give the lease back; the send stays counted."""
    return await _give_back(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        g.c.phase == Phase.SENT,
        before=await lock(connection, grant_id),
        sends=g.c.sends,
        in_doubt=g.c.sends > 1,
        back_off=event.back_off,
    )


async def refused(connection: AsyncConnection, grant_id: str, event: lease.Refused) -> GrantState | None:
    """Mark the current token refused and turn to the newest never sent one; without any, quarantine."""
    before = await lock(connection, grant_id)
    after = await _update(
        connection,
        grant_id,
        g.c.attempt == event.attempt,
        g.c.generation == event.generation,
        g.c.consent == event.consent,
        g.c.phase == Phase.SENT,
        phase=Phase.IDLE,
        **_NOTHING_IN_DOUBT,
    )
    if after is None:
        return None
    await connection.execute(
        update(t).where(t.c.grant_id == grant_id, t.c.fingerprint == after.current).values(refused_at=now_ms())
    )
    after = await _succeed(connection, grant_id, after)
    await move_counts(connection, before, after)
    return after


async def _succeed(connection: AsyncConnection, grant_id: str, refused_state: GrantState) -> GrantState | None:
    """Make the newest token never sent current, or quarantine the grant; the row is locked already."""
    newest = (
        select(t.c.fingerprint)
        .where(
            t.c.grant_id == grant_id,
            t.c.consent == refused_state.consent,
            t.c.first_sent_at.is_(None),
            t.c.refused_at.is_(None),
            t.c.fingerprint != refused_state.current,
        )
        .order_by(t.c.received_at.desc(), t.c.attempt.desc(), t.c.fingerprint.desc())
        .limit(1)
    )
    successor = (await connection.execute(newest)).scalar_one_or_none()
    if successor is None:
        return await _update(connection, grant_id, health=Health.QUARANTINED)
    return await _update(
        connection, grant_id, current=successor, generation=g.c.generation + 1, attempt=g.c.attempt + 1
    )


async def unknown(connection: AsyncConnection, grant_id: str, event: lease.Unknown) -> GrantState | None:
    """Say that nobody knows what became of the send."""
    said_by = _LEASE_OVER if event.attempt is None else g.c.attempt == event.attempt
    before = await lock(connection, grant_id)
    after = await _update(connection, grant_id, g.c.phase == Phase.SENT, said_by, phase=Phase.UNKNOWN)
    if after is not None:
        await move_counts(connection, before, after)
    return after


async def finish(
    connection: AsyncConnection, grant_id: str, event: lease.Finish, times: RedeemTimes
) -> GrantState | None:
    """Free a landed lease, and take the grant again for whom the event names."""
    idle = await _update(
        connection, grant_id, g.c.attempt == event.attempt, g.c.phase == Phase.LANDED, phase=Phase.IDLE
    )
    if idle is None or event.again is None:
        return idle
    return await take(connection, grant_id, lease.Take(event.again), times) or idle


async def keep(  # noqa: PLR0913 - the columns of a token
    connection: AsyncConnection, grant_id: str, fingerprint: str, consent: int, attempt: int, sealed: Sealed
) -> None:
    """Insert a received token; one that is there already stays as it is."""
    insert = insert_into(connection, t).values(_token(grant_id, fingerprint, consent, attempt, sealed))
    await connection.execute(insert.on_conflict_do_nothing(index_elements=_TOKEN_KEY))


async def keep_anew(  # noqa: PLR0913 - the columns of a token
    connection: AsyncConnection, grant_id: str, fingerprint: str, consent: int, attempt: int, sealed: Sealed
) -> None:
    """Insert the token of a consent, or replace it as long as it was never used; a used one stays as it is.

    It may have been sealed for an endpoint that was wrong.
    """
    token = _token(grant_id, fingerprint, consent, attempt, sealed)
    insert = insert_into(connection, t).values(token)
    await connection.execute(
        insert.on_conflict_do_update(
            index_elements=_TOKEN_KEY,
            set_={name: value for name, value in token.items() if name not in _TOKEN_KEY},
            where=t.c.first_sent_at.is_(None) & t.c.refused_at.is_(None),
        )
    )


def _token(grant_id: str, fingerprint: str, consent: int, attempt: int, sealed: Sealed) -> dict[str, Any]:
    return {
        "grant_id": grant_id,
        "fingerprint": fingerprint,
        "consent": consent,
        "attempt": attempt,
        "key_id": sealed.key_id,
        "ciphertext": sealed.ciphertext,
        "received_at": now_ms(),
    }


async def land(connection: AsyncConnection, grant_id: str, event: lease.Land) -> GrantState | None:
    """Make a kept token current; no condition on the lease."""
    mine = g.c.attempt == event.attempt
    before = await lock(connection, grant_id)
    after = await _update(
        connection,
        grant_id,
        g.c.generation == event.generation,
        g.c.consent == event.consent,
        g.c.hold.in_([Hold.NONE, Hold.FROZEN]),
        or_(mine, g.c.phase != Phase.SENT),
        current=event.fingerprint,
        generation=g.c.generation + 1,
        phase=case((mine, Phase.LANDED), else_=Phase.IDLE),
        attempt=case((mine, g.c.attempt), else_=g.c.attempt + 1),
        health=Health.OK,
        **_NOTHING_IN_DOUBT,
    )
    if after is None:
        return before
    await move_counts(connection, before, after)
    return after


async def consented(
    connection: AsyncConnection, grant_id: str, event: lease.Consented, before: GrantState
) -> GrantState | None:
    """Begin a new consent with its first token; `before` is the locked row the token was sealed for."""
    after = await _update(
        connection,
        grant_id,
        g.c.hold == Hold.NONE,
        g.c.consent == before.consent,
        g.c.attempt == before.attempt,
        consent=g.c.consent + 1,
        generation=g.c.generation + 1,
        epoch=g.c.epoch + 1,
        attempt=g.c.attempt + 1,
        current=event.fingerprint,
        phase=Phase.IDLE,
        health=Health.OK,
        not_before=0,
        **_NOTHING_IN_DOUBT,
    )
    if after is not None:
        await move_counts(connection, before, after)
    return after


async def _give_back(  # noqa: PLR0913 - the columns that change
    connection: AsyncConnection,
    grant_id: str,
    *conditions: Condition,
    before: GrantState | None,
    sends: ColumnElement[int],
    in_doubt: Condition,
    back_off: int,
) -> GrantState | None:
    after = await _update(
        connection,
        grant_id,
        *conditions,
        phase=case((in_doubt, Phase.UNKNOWN), else_=Phase.IDLE),
        sends=case((in_doubt, sends), else_=0),
        first_sent_at=case((in_doubt, g.c.first_sent_at), else_=null()),
        replay_until=case((in_doubt, g.c.replay_until), else_=null()),
        not_before=now_ms() + back_off,
    )
    if after is not None:
        await move_counts(connection, before, after)
    return after


async def _update(
    connection: AsyncConnection, grant_id: str, *conditions: Condition, **values: object
) -> GrantState | None:
    statement = update(g).where(g.c.id == grant_id, *conditions).values(values).returning(*STATE_COLUMNS)
    row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else grant_state(row)
