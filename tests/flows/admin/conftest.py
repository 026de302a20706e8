from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.adapters.keys.files import make_kek_file
from broker.adapters.keys.kek import open_kek
from broker.adapters.keys.keyring import Keyring, open_keyring
from broker.adapters.memory import MemoryStore
from tests.flows.admin.kit import AdminKit
from tests.support.times import TIMES


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """Give real keys."""
    path: Path = tmp_path_factory.mktemp("kek") / "kek.json"
    make_kek_file(path)
    return asyncio.run(open_keyring(MemoryStore(TIMES), [open_kek(f"file:{path}")]))


@pytest.fixture
def kit(keyring: Keyring) -> AdminKit:
    """Give the admin flows over an empty store."""
    return AdminKit(keyring)
