"""What an SQLite store makes of its predecessor: the folder's lock proves it dead, and a new boot has a new clock."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import case, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.tables import (
    BUSY,
    LEASED,
    OPEN,
    access_tokens,
    attempts,
    authorizations,
    control,
    grants,
    outbox,
    refresh_tokens,
    replicas,
)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_boot_id() -> str:
    """Return the id the kernel gave to this boot of the host."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


async def take_over(connection: AsyncConnection, boot_id: str) -> None:
    """End all leases and lives; on another boot also forget every time that was read from the old clock."""
    await connection.execute(update(grants).where(BUSY).values(lease_until=0))
    # Nobody else is alive, and what was seen of a journal before does not count for what died since.
    await connection.execute(update(replicas).values(beat_at=0, drained_at=None))
    await connection.execute(update(access_tokens).where(LEASED).values(lease_until=now_ms(), owner=None))
    stored = (await connection.execute(select(control.c.boot_id))).scalar_one()
    if stored != boot_id:
        await _forget_times(connection)
        await connection.execute(update(control).values(boot_id=boot_id))


async def _forget_times(connection: AsyncConnection) -> None:
    await connection.execute(delete(access_tokens))
    await connection.execute(delete(outbox).where(outbox.c.delivered))  # nobody is left to read them back
    await connection.execute(
        update(grants)
        .where(text("replay_until IS NOT NULL OR not_before > 0 OR lease_until > 0 OR last_sent_at IS NOT NULL"))
        .values(
            lease_until=0,
            not_before=0,
            replay_until=func.min(grants.c.replay_until, 0),  # two arguments: the smaller; a window stays one, over
            # Nobody knows how long ago it was: it counts from now.
            last_sent_at=case((grants.c.last_sent_at.is_not(None), now_ms())),
            settled_at=None,
        )
    )
    # Logins under way are over, and those whose end nobody saw are looked after at once.
    await connection.execute(update(authorizations).values(expires_at=0, moved_at=now_ms()))
    await connection.execute(update(attempts).where(OPEN).values(sent_at=now_ms()))
    # Tokens of the old boot stay in their order and before those of the new one.
    newest = (await connection.execute(select(func.max(refresh_tokens.c.received_at)))).scalar_one()
    if newest is not None and newest >= 0:
        shift = newest + 1
        for name in ("received_at", "first_sent_at", "refused_at", "revoked_at"):
            column = refresh_tokens.c[name]
            await connection.execute(update(column.table).values({column: column - shift}))
        await connection.execute(update(grants).values(first_sent_at=grants.c.first_sent_at - shift))
