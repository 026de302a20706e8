from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.adapters.keys.errors import KeyringError
from broker.adapters.keys.kek import Kek, open_or_make_local_kek
from broker.adapters.keys.keyring import open_keyring
from broker.core.sealing import refresh_token_binding
from broker.core.secret import Secret
from broker.ports import DataKey, KeyPurpose, KeyState
from tests.adapters.keys.support import Rows, new_kek

TOKEN = Secret("rt-canary-4711")
BINDING = refresh_token_binding("g1", 2, 7, "https://auth.example:443")


async def test_first_start_makes_one_primary_key_per_purpose(rows: Rows, kek: Kek) -> None:
    """An empty table gets three keys wrapped by the first KEK; none of them is readable in its row."""
    await open_keyring(rows, [kek])
    assert sorted((purpose, KeyState.PRIMARY, (kek.uri,)) for purpose in KeyPurpose) == sorted(
        (row.purpose, row.state, tuple(row.wraps)) for row in rows.rows
    )
    assert not any(b"type.googleapis.com" in wrap for row in rows.rows for wrap in row.wraps.values())


async def test_two_first_starts_agree(rows: Rows, kek: Kek) -> None:
    """Replicas that start at once on an empty table end with the same keys."""
    first, second = await asyncio.gather(open_keyring(rows, [kek]), open_keyring(rows, [kek]))
    assert TOKEN == await second.open(await first.seal(TOKEN, BINDING), BINDING)
    assert first.fingerprint(TOKEN) == second.fingerprint(TOKEN)


async def test_the_first_kek_wraps_and_all_open(rows: Rows, kek: Kek, tmp_path: Path) -> None:
    """While KEKs change, keys wrapped by the old one open beside a new one named first."""
    newer = new_kek(tmp_path / "newer.json")
    sealed = await (await open_keyring(rows, [kek])).seal(TOKEN, BINDING)
    assert TOKEN == await (await open_keyring(rows, [newer, kek])).open(sealed, BINDING)
    fresh = Rows()
    await open_keyring(fresh, [newer, kek])
    assert {(newer.uri,)} == {tuple(row.wraps) for row in fresh.rows}


async def test_a_moved_kek_file_still_opens(rows: Rows, kek: Kek, tmp_path: Path) -> None:
    """A row names the KEK that wrapped it; the same KEK under another path opens it all the same."""
    sealed = await (await open_keyring(rows, [kek])).seal(TOKEN, BINDING)
    (tmp_path / "kek.json").rename(tmp_path / "moved.json")
    moved = await open_or_make_local_kek(f"file:{tmp_path / 'moved.json'}", rows)
    assert TOKEN == await (await open_keyring(rows, [moved])).open(sealed, BINDING)


async def test_a_lost_kek_refuses_the_start(rows: Rows, kek: Kek, tmp_path: Path) -> None:
    """Keys that no configured KEK opens stop the start with a sentence naming key and KEK; rows stay as they are."""
    await open_keyring(rows, [kek])
    before = list(rows.rows)
    with pytest.raises(KeyringError, match="opens under no configured key-encryption key") as caught:
        await open_keyring(rows, [new_kek(tmp_path / "other.json")])
    assert (True, before) == (kek.uri in str(caught.value), rows.rows)


async def test_no_kek_refuses_the_start(rows: Rows) -> None:
    """Without any KEK there is no keyring."""
    with pytest.raises(KeyringError, match="no key-encryption key is configured"):
        await open_keyring(rows, [])


def _swap_ids(rows: list[DataKey]) -> list[DataKey]:
    """Let a new MAC key take the id, and so the place, of the old."""
    return [replace(row, wraps=rows[(place + 1) % len(rows)].wraps) for place, row in enumerate(rows)]


def _swap_purpose(rows: list[DataKey]) -> list[DataKey]:
    other = {KeyPurpose.MAC: KeyPurpose.FINGERPRINT, KeyPurpose.FINGERPRINT: KeyPurpose.MAC}
    return [replace(row, purpose=other.get(row.purpose, row.purpose)) for row in rows]


def _drop_one(rows: list[DataKey]) -> list[DataKey]:
    return rows[1:]


def _two_primaries(rows: list[DataKey]) -> list[DataKey]:
    return [*rows, rows[0]]


def _none_primary(rows: list[DataKey]) -> list[DataKey]:
    return [replace(row, state=KeyState.ENABLED) for row in rows]


@pytest.mark.parametrize("spoil", [_swap_ids, _swap_purpose, _drop_one, _two_primaries, _none_primary])
async def test_rows_that_were_tampered_with_refuse_the_start(
    rows: Rows, kek: Kek, spoil: Callable[[list[DataKey]], list[DataKey]]
) -> None:
    """A data key is bound to its row's id and purpose, and each purpose has exactly one primary."""
    await open_keyring(rows, [kek])
    rows.rows = spoil(rows.rows)
    with pytest.raises(KeyringError):
        await open_keyring(rows, [kek])


async def test_a_local_kek_is_made_only_before_anything_is_sealed(rows: Rows, tmp_path: Path) -> None:
    """The KEK file appears by itself on an empty table; once data keys exist, its absence refuses the start."""
    path = tmp_path / "kek.json"
    await open_keyring(rows, [await open_or_make_local_kek(f"file:{path}", rows)])
    path.unlink()
    with pytest.raises(KeyringError, match="restore that file"):
        await open_or_make_local_kek(f"file:{path}", rows)
    assert not path.exists()
