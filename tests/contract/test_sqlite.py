"""What is peculiar to SQLite: one process, a private folder, a clock that ends with the boot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.adapters.sql import StoreRefusedError
from broker.adapters.sql.engine_sqlite import PriorityLock
from broker.core import lease
from broker.core.models import AccessTokenKey
from tests.contract.backends import DATA_KEYS, EVENT, SqlBackend, open_sql, record_of
from tests.contract.test_access_tokens import key, token
from tests.contract.test_redeem import consented_grant, sent


async def opened(folder: Path) -> SqlBackend:
    """Open a store with its data keys."""
    backend = await open_sql(None, folder)
    await backend.data_keys.add_first_data_keys(DATA_KEYS)
    return backend


async def test_nobody_else_may_read_the_folder(tmp_path: Path) -> None:
    """The folder is 0700 even if it was open before, every file in it 0600."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    backend = await opened(folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    await backend.aclose()
    assert 0o700 == folder.stat().st_mode & 0o777
    assert dict.fromkeys(("broker.db", "broker.db-wal", "broker.db-shm", "broker.lock"), 0o600) == modes


async def test_a_path_in_the_url_is_refused(tmp_path: Path) -> None:
    """An SQLite store lies in the data folder and nowhere else."""
    with pytest.raises(StoreRefusedError, match="BROKER_DATA_DIR"):
        await open_sql("sqlite:///elsewhere.db", tmp_path)


async def test_a_restart_ends_all_leases(tmp_path: Path) -> None:
    """The next process may take at once what the last one had leased, and keeps what it knew."""
    backend = await opened(tmp_path)
    prepared, unsure = await consented_grant(backend), await consented_grant(backend)
    await backend.store.apply(prepared, lease.Take("old"))
    await sent(backend, unsure)
    cached, leased = key(prepared, "read"), key(prepared, "trade")
    await backend.store.put_access(token(cached, 1))
    await backend.store.take_access(leased, "old", "key:x")
    await backend.aclose()

    backend = await opened(tmp_path)
    taken = await backend.store.apply(prepared, lease.Take("new"))
    assert taken is not None
    assert await backend.store.apply(unsure, lease.Take("new")) is None
    assert await backend.store.apply(unsure, lease.Unknown(None)) is not None
    assert await backend.store.take_access(leased, "new", "key:x") == 2
    assert {cached} == set(await backend.store.find_access_tokens([cached]))
    await backend.aclose()


async def test_another_boot_forgets_the_old_clock(tmp_path: Path) -> None:
    """After a reboot cached tokens are gone, replay windows are over, nothing waits for a time of the old clock."""
    backend = await opened(tmp_path)
    waiting, unsure = await consented_grant(backend), await consented_grant(backend)
    taken = await backend.store.apply(waiting, lease.Take("old"))
    assert taken is not None
    await backend.store.apply(waiting, lease.NotSent(taken.attempt, 10**9))
    taken = await backend.store.apply(unsure, lease.Take("old"))
    assert taken is not None
    licence = lease.Sent(taken.attempt, taken.generation, 10**9)
    assert await backend.store.licence(licence, record_of(unsure, taken.attempt)) is not None
    cached = AccessTokenKey(waiting, 2, "desk-app", ("read",))
    await backend.store.put_access(token(cached, 1))
    await backend.store.mark_delivered([pending.id for pending in await backend.store.undelivered(100)])
    await backend.execute("UPDATE control SET boot_id = 'the one before'")
    await backend.aclose()

    backend = await opened(tmp_path)
    assert await backend.store.apply(waiting, lease.Take("new")) is not None
    grant = await backend.store.get_grant(unsure)
    assert grant is not None
    assert {} == await backend.store.find_access_tokens([cached])
    assert [] == await backend.execute("SELECT id FROM outbox")
    assert (True, 0, True) == (
        grant.state.first_sent_at is not None,
        grant.state.replay_until,
        all(kept.received_at < 0 for kept in grant.state.tokens),
    )
    await backend.aclose()


@pytest.mark.parametrize("same_boot", [True, False])
async def test_a_restart_ends_all_lives_but_no_open_send(tmp_path: Path, same_boot: bool) -> None:
    """Nobody else lives, no journal was found empty; after a reboot sends count from now and no word on them does."""
    backend = await opened(tmp_path)
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    for owner in ("me", "other"):
        await backend.store.beat(owner, "volume-1", [], [])
    await backend.store.drained("other")
    await backend.store.apply(grant_id, lease.Unknown(state.attempt))
    await backend.store.hold(grant_id, lease.Settle(), EVENT)
    await backend.advance(10**6)
    if not same_boot:
        await backend.execute("UPDATE control SET boot_id = 'the one before'")
    await backend.aclose()

    backend = await opened(tmp_path)
    now = await backend.now()
    replicas = await backend.execute("SELECT owner, beat_at, drained_at FROM replicas ORDER BY owner")
    grant = await backend.store.get_grant(grant_id)
    await backend.aclose()
    assert grant is not None
    (left,) = grant.state.open_sends
    since = [now - (grant.state.last_sent_at or 0) < 60_000, now - left.sent_at < 60_000]
    assert [("me", 0, None), ("other", 0, None)] == [
        (row["owner"], row["beat_at"], row["drained_at"]) for row in replicas
    ]
    assert ([not same_boot] * 2, same_boot) == (since, grant.state.settled_at is not None)


async def test_the_most_urgent_waiter_is_next() -> None:
    """Whoever holds the writer, the commit lane goes before all others, and equals in the order they came."""
    lock, order = PriorityLock(), []

    async def work(name: str, priority: int) -> None:
        async with lock.hold(priority):
            order.append(name)

    async with lock.hold(1):
        waiting = [asyncio.create_task(work(*each)) for each in (("a", 1), ("b", 1), ("land", 0), ("c", 1))]
        await asyncio.sleep(0)
        waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert ["land", "a", "c"] == order
