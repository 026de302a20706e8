"""An empty SQLite database without making its tables, which is a fifth of what a first start does.

First starts that make them are those of the demo, of the README's commands, and of the tests of migrations.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
import threading
from pathlib import Path
from typing import Final

from broker.adapters.data_folder import DataFolder
from broker.adapters.sql.database import FILE_NAME, open_database

_MAKING: Final = threading.Lock()
"""Alembic keeps what it works on in its modules: two migrations at a time of one process mix their databases up."""


def put_empty_database(data_dir: Path) -> None:
    """Put a database as a first start leaves it into a data folder that is not there yet; not where a loop runs."""
    if data_dir.exists():
        return
    data_dir.mkdir(mode=0o700, parents=True)
    (data_dir / FILE_NAME).touch(mode=0o600)
    with _MAKING:
        (data_dir / FILE_NAME).write_bytes(_empty_database())


@functools.cache
def _empty_database() -> bytes:
    """Return the bytes of a database as a broker that ended right after making its tables leaves it."""

    async def make(folder: Path) -> None:
        with contextlib.closing(DataFolder(folder)) as data:
            await (await open_database(None, data)).aclose()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make(Path(folder)))
        return (Path(folder) / FILE_NAME).read_bytes()
