"""What tells that a database is lost, and what does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.adapters.sql import StoreRefusedError
from broker.adapters.sql.lost_file import refuse_lost_file
from broker.main.foundation import signs_of_life
from broker.settings import Settings


@pytest.mark.parametrize("database", [None, b""], ids=["missing", "empty"])
@pytest.mark.parametrize(
    ("left", "told"),
    [
        (["audit.db"], "audit.db"),
        (["journal"], "journal"),
        (["broker.db-wal"], "broker.db-wal"),
        (["journal", "audit.db", "kek.json"], "audit.db, journal"),
    ],
)
def test_what_a_broker_left_tells_that_its_database_is_lost(
    database: bytes | None, left: list[str], told: str, tmp_path: Path
) -> None:
    """The folder, what is there, what is missing, and both ways on are told."""
    for name in left:
        (tmp_path / name).write_bytes(b"x")
    if database is not None:
        (tmp_path / "broker.db").write_bytes(database)
    words = f"the data folder {tmp_path}, as {told} tells, but its database broker.db is missing or empty: put back"
    with pytest.raises(StoreRefusedError, match=re.escape(words)) as refused:
        refuse_lost_file(tmp_path / "broker.db", [tmp_path / "audit.db", tmp_path / "journal"])
    assert f"move {told} away, or name another folder in BROKER_DATA_DIR" in str(refused.value)


@pytest.mark.parametrize("files", [{}, {"kek.json": b"x"}, {"audit.db": b""}, {"broker.db": b"x", "audit.db": b"x"}])
def test_a_folder_that_lost_nothing_is_taken(files: dict[str, bytes], tmp_path: Path) -> None:
    """A new one, one of a first start that ended half way, and one that is whole."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    refuse_lost_file(tmp_path / "broker.db", [tmp_path / "audit.db"])


@pytest.mark.parametrize(("is_empty", "signs"), [(True, ["audit.db"]), (False, ["audit.db", "journal"])])
def test_a_journal_tells_by_its_entries(is_empty: bool, signs: list[str], tmp_path: Path) -> None:
    """An empty one is made before there is a database."""
    settings = Settings(data_dir=tmp_path)
    assert signs == [file.name for file in signs_of_life(settings, journal_is_empty=is_empty)]
