"""Client secrets, API keys, data keys, history: small tables, each with its rule."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.adapters.memory import grants
from broker.adapters.sql import open_sends
from broker.core.errors import AlreadyExistsError, NotFoundError, StoreUnavailableError
from broker.core.models import ApiKey, Client, Kind, Origin
from broker.ports import (
    AttemptRecord,
    CatalogMovedError,
    ClientSecretVersion,
    DataKey,
    KeyPurpose,
    KeyState,
    ObjectChange,
)
from tests.contract.backends import DATA_KEYS, EVENT, SEALED, Backend, SqlBackend, record_of

SECRET = ClientSecretVersion("c1", 1, SEALED, "https://auth.example")
KEY = ApiKey("kid1", "reports", b"mac of the key", "mac-1")


async def test_secrets_come_one_after_another(backend: Backend) -> None:
    """Of two that would both be the next version one is stored, with its event; and the newest is the one in use."""
    before = await backend.store.read_version()
    assert await backend.store.current_secret("c1") is None
    assert await backend.store.add_secret(SECRET, EVENT)
    assert not await backend.store.add_secret(SECRET, EVENT)
    assert not await backend.store.add_secret(replace(SECRET, version=3), EVENT)
    assert (SECRET, before + 1, 1) == (
        await backend.store.current_secret("c1"),
        await backend.store.read_version(),
        len(await backend.store.undelivered(10)),
    )


async def test_a_removed_clients_secret_goes_with_it(backend: Backend) -> None:
    """A client of the same name made again starts without a secret."""
    client = Client("c1", "desk", Origin.FILE, "aries", "desk-app")
    await backend.store.write_objects([ObjectChange(Kind.CLIENT, "desk", client)], revision=None, event=EVENT)
    await backend.store.add_secret(SECRET, EVENT)
    await backend.store.write_objects([ObjectChange(Kind.CLIENT, "desk", None)], revision=None, event=EVENT)
    assert await backend.store.current_secret("c1") is None


async def test_api_keys_are_found_and_listed(backend: Backend) -> None:
    """Keys are found by id or name and listed by name; adding one raises the version and tells its event."""
    before = await backend.store.read_version()
    other = ApiKey("kid2", "admin", b"m", "mac-1", disabled=True, bootstrap_until=1_800_000_000)
    versions = [await backend.store.add_api_key(key, EVENT) for key in (KEY, other)]
    assert (other, None) == (await backend.store.find_key_named("admin"), await backend.store.find_key_named("kid1"))
    assert ([before + 1, before + 2], KEY, None, [other, KEY]) == (
        versions,
        await backend.store.find_api_key("kid1"),
        await backend.store.find_api_key("nobody"),
        await backend.store.list_api_keys(),
    )


@pytest.mark.parametrize("taken", [replace(KEY, id="other"), replace(KEY, name="other")])
async def test_a_taken_name_or_id_is_refused(backend: Backend, taken: ApiKey) -> None:
    """No two keys share a name or an id."""
    await backend.store.add_api_key(KEY, EVENT)
    with pytest.raises(AlreadyExistsError):
        await backend.store.add_api_key(taken, EVENT)
    assert [KEY] == await backend.store.list_api_keys()


async def test_a_key_is_disabled_but_never_renamed(backend: Backend) -> None:
    """Setting a key replaces its MAC and whether it is disabled, nothing else."""
    await backend.store.add_api_key(replace(KEY, bootstrap_until=5), EVENT)
    wanted = ApiKey("kid1", "admin", b"new mac", "mac-1", disabled=True)
    await backend.store.set_api_key(wanted, EVENT)
    assert replace(wanted, name="reports", bootstrap_until=5) == await backend.store.find_api_key("kid1")
    with pytest.raises(NotFoundError):
        await backend.store.set_api_key(replace(KEY, id="nobody"), EVENT)


async def test_a_key_is_not_set_on_an_old_version(backend: Backend) -> None:
    """A change of a key that was decided on another version is not made; on this one it is."""
    version = await backend.store.add_api_key(KEY, EVENT)
    ended = replace(KEY, disabled=True)
    with pytest.raises(CatalogMovedError):
        await backend.store.set_api_key(ended, EVENT, expected_version=version - 1)
    assert KEY == await backend.store.find_api_key("kid1")
    assert version + 1 == await backend.store.set_api_key(ended, EVENT, expected_version=version)


@pytest.mark.parametrize("tampering", ["name = 'admin'", "id = 'kid9'", "bootstrap_until = 9", "disabled = true"])
async def test_a_changed_api_key_is_not_believed(sql: SqlBackend, tampering: str) -> None:
    """A writer of the database cannot turn a key into another caller's."""
    await sql.store.add_api_key(KEY, EVENT)
    await sql.execute(f"UPDATE api_keys SET {tampering}")  # noqa: S608 - the table above
    key_id = "kid9" if "kid9" in tampering else "kid1"
    named = "admin" if "name" in tampering else KEY.name
    for call in (sql.store.find_api_key(key_id), sql.store.find_key_named(named), sql.store.list_api_keys()):
        with pytest.raises(StoreUnavailableError) as refused:
            await call
        assert "mac" == refused.value.cause


async def test_the_first_data_keys_are_made_once(backend: Backend) -> None:
    """Rows come back whole; a second set, from a replica starting at the same time, is not written."""
    late = DataKey("late", KeyPurpose.FINGERPRINT, KeyState.STAGED, {})
    assert not await backend.data_keys.add_first_data_keys([late])
    assert list(DATA_KEYS) == list(await backend.data_keys.load_data_keys())


async def test_only_one_of_several_starters_makes_the_keys(sql: SqlBackend) -> None:
    """Replicas that start together on an empty database agree on one set of keys."""
    await sql.execute("DELETE FROM data_keys")
    sets = [[DataKey(f"key-{n}", KeyPurpose.AEAD, KeyState.PRIMARY, {})] for n in range(5)]
    made = await asyncio.gather(*(sql.data_keys.add_first_data_keys(keys) for keys in sets))
    assert (1, 1) == (sum(made), len(await sql.data_keys.load_data_keys()))


async def test_history_is_read_newest_first(backend: Backend) -> None:
    """A grant's attempts come newest first, no more than asked for, none of another grant."""
    records = [
        AttemptRecord("g1", n, "owner", 1, EVENT.time + timedelta(milliseconds=n), "landed", cause)
        for n, cause in enumerate(("", "dns", ""))
    ]
    for record in (*records, record_of("g2", 9, outcome="refused")):
        await backend.store.record_attempt(record)
    assert [records[2], records[1]] == await backend.store.list_attempts("g1", 2)


async def test_a_long_history_loses_its_oldest(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each grant only the newest attempts are kept, whatever happens to others."""
    monkeypatch.setattr(open_sends, "ATTEMPTS_KEPT", 3)
    monkeypatch.setattr(grants, "_ATTEMPTS_KEPT", 3)
    for attempt in range(5):
        for grant_id in ("g1", "g2")[: 1 + (attempt == 0)]:
            await backend.store.record_attempt(record_of(grant_id, attempt, outcome="landed"))
    assert [[4, 3, 2], [0]] == [
        [record.attempt for record in await backend.store.list_attempts(grant_id, 10)] for grant_id in ("g1", "g2")
    ]
