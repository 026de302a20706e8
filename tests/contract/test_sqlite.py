"""What is peculiar to SQLite: one process, a private folder, a clock that ends with the boot."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from broker.adapters.sql import StoreRefusedError, open_database
from broker.adapters.sql.data_folder import file_system_of, is_network
from broker.adapters.sql.engine_sqlite import PriorityLock
from broker.core import lease
from broker.core.models import AccessTokenKey
from tests.contract.backends import DATA_KEYS, SqlBackend, open_sql
from tests.contract.test_access_tokens import key, token
from tests.contract.test_redeem import consented_grant, sent


async def opened(folder: Path) -> SqlBackend:
    """Open a store with its data keys."""
    backend = await open_sql(None, folder)
    await backend.data_keys.add_first_data_keys(DATA_KEYS)
    return backend


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """While one process has the folder, another is told so, with the folder and the way to have more."""
    backend = await opened(tmp_path)
    program = (
        "import asyncio, sys; from pathlib import Path; from broker.adapters.sql import *\n"
        "try: asyncio.run(open_database(None, Path(sys.argv[1])))\n"
        "except StoreRefusedError as error: print(error)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path), stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    await backend.aclose()
    assert (True, True) == (str(tmp_path).encode() in output, b"PostgreSQL" in output)


async def test_a_closed_folder_is_free(tmp_path: Path) -> None:
    """Closing the store lets the next process in."""
    await (await opened(tmp_path)).aclose()
    await (await opened(tmp_path)).aclose()


async def test_nobody_else_may_read_the_folder(tmp_path: Path) -> None:
    """The folder is 0700 even if it was open before, every file in it 0600."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    backend = await opened(folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    await backend.aclose()
    assert 0o700 == folder.stat().st_mode & 0o777
    assert dict.fromkeys(("broker.db", "broker.db-wal", "broker.db-shm", "broker.lock"), 0o600) == modes


async def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """A link could make the broker lock or create a file elsewhere: it is named, and nothing is made."""
    elsewhere = tmp_path / "elsewhere"
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "broker.lock").symlink_to(elsewhere)
    with pytest.raises(StoreRefusedError, match=r"broker\.lock is a symbolic link"):
        await open_database(None, folder)
    assert not elsewhere.exists()


async def test_a_path_in_the_url_is_refused(tmp_path: Path) -> None:
    """An SQLite store lies in the data folder and nowhere else."""
    with pytest.raises(StoreRefusedError, match="BROKER_DATA_DIR"):
        await open_database("sqlite:///elsewhere.db", tmp_path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "ext4"), ("/data", "nfs4"), ("/data/local", "xfs"), ("/database", "ext4"), ("/with space/x", "fuse.sshfs")],
)
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(path: str, expected: str) -> None:
    """The longest mount point above a path says its type, whole names only."""
    mounts = (
        "/dev/a / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n/dev/b /data/local xfs rw 0 0\n"
        "u@h: /with\\040space fuse.sshfs rw 0 0\n"
    )
    assert expected == file_system_of(Path(path), mounts)


@pytest.mark.parametrize(("kind", "expected"), [("nfs", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False)])
def test_network_file_systems_are_known(kind: str, expected: bool) -> None:
    """File systems whose locks other hosts do not see are refused, local ones are not."""
    assert expected == is_network(kind)


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
    await backend.store.apply(unsure, lease.Sent(taken.attempt, taken.generation, 10**9))
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
