"""A table of data keys in memory, and KEK files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from broker.adapters.keys.files import make_kek_file
from broker.adapters.keys.kek import Kek, open_kek
from broker.core.errors import StoreUnavailableError
from broker.ports import DataKey


class Rows:
    """The port DataKeyStore over a list; counts its loads and can be away."""

    def __init__(self) -> None:
        self.rows: list[DataKey] = []
        self.loads = 0
        self.away = False

    async def load_data_keys(self) -> Sequence[DataKey]:
        self.loads += 1
        if self.away:
            raise StoreUnavailableError("away", cause="gone")
        return list(self.rows)

    async def add_first_data_keys(self, keys: Sequence[DataKey]) -> bool:
        if self.rows:
            return False
        self.rows = list(keys)
        return True


def new_kek(path: Path) -> Kek:
    """Make a KEK file and open it."""
    make_kek_file(path)
    return open_kek(f"file:{path}")
