"""A data folder in which a broker lived, without its database: begun anew, all it held would be lost unnoticed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from broker.adapters.sql.errors import StoreRefusedError


def refuse_lost_file(database: Path, lived: Iterable[Path]) -> None:
    """Make sure that no database is made where there was one.

    Args:
        database: the SQLite file.
        lived: files that hold something only where there was a database before; its write-ahead log is another.

    Raises:
        StoreRefusedError: the database is missing or empty, and one of those files is not.
    """
    if _holds(database):
        return
    found = ", ".join(file.name for file in (*lived, database.with_name(f"{database.name}-wal")) if _holds(file))
    if found:
        msg = (
            f"a broker lived in the data folder {database.parent}, as {found} tells, but its database {database.name} "
            "is missing or empty: put back the database from the backup; or to begin anew on purpose, without the "
            f"grants, keys and configuration it held, move {found} away, or name another folder in BROKER_DATA_DIR"
        )
        raise StoreRefusedError(msg)


def _holds(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0
