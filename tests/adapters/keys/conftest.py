from __future__ import annotations

from pathlib import Path

import pytest

from broker.adapters.keys.kek import Kek
from broker.adapters.keys.keyring import Keyring, open_keyring
from tests.adapters.keys.support import Rows, new_kek


@pytest.fixture
def rows() -> Rows:
    """Give an empty table of data keys."""
    return Rows()


@pytest.fixture
def kek(tmp_path: Path) -> Kek:
    """Give a new KEK."""
    return new_kek(tmp_path / "kek.json")


@pytest.fixture
async def keyring(rows: Rows, kek: Kek) -> Keyring:
    """Give the keyring of that table and KEK after its first start."""
    return await open_keyring(rows, [kek])
