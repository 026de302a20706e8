"""The journal's file: what of it survives torn writes, full disks, half-made starts and other versions."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.adapters import journal as journal_file
from broker.adapters.data_folder import DataFolder, DataFolderRefusedError
from broker.adapters.journal import PLACE_BYTES, PLACES, open_journal
from broker.core.oauth.salvage import MAX_TOKEN_CHARS
from broker.ports import JournalError
from tests.contract.test_journal import all_places, received, reserved
from tests.contract.volumes import FileVolume

FILE_BYTES = PLACE_BYTES * (PLACES + 1)
SECTOR = 512


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[FileVolume]:
    """A journal on an empty volume."""
    opened = FileVolume(tmp_path / "data")
    yield opened
    opened.close()


def refused(folder: DataFolder) -> str:
    """Return why a journal cannot be opened."""
    with pytest.raises(DataFolderRefusedError) as caught:
        open_journal(folder)
    return str(caught.value)


# --- the file --------------------------------------------------------------------------------------------------------


async def test_the_file_is_private_and_whole_from_the_start(tmp_path: Path) -> None:
    """It belongs to this user alone whatever the umask, every block of it is on the disk, and it never grows."""
    before = os.umask(0)
    volume = FileVolume(tmp_path / "data")
    os.umask(before)
    place = all_places(volume.journal)[-1]
    made = volume.file.stat()
    await volume.journal.write(place, received(ciphertext=b"x" * 20_000))
    written = volume.file.stat()
    volume.close()
    assert (0o600, FILE_BYTES, FILE_BYTES) == (made.st_mode & 0o777, made.st_size, written.st_size)
    assert made.st_blocks * 512 >= FILE_BYTES
    assert made.st_blocks == written.st_blocks


async def test_a_link_is_not_followed(volume: FileVolume, tmp_path: Path) -> None:
    """A link could make the broker write elsewhere: it is refused by name, and what it leads to is left alone."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    volume.file.unlink()
    volume.file.symlink_to(elsewhere)
    assert str(volume.file) in refused(volume.folder)
    assert b"precious" == elsewhere.read_bytes()


async def test_a_start_that_was_not_finished_is_begun_anew(tmp_path: Path) -> None:
    """What a process left that ended while it made the journal is in nobody's way, and nothing of it is believed."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "journal.new").write_bytes(b"half-made")
    volume = FileVolume(folder)
    names = {path.name for path in folder.iterdir()}
    volume.close()
    assert ({"journal", "broker.lock"}, FILE_BYTES) == (names, volume.file.stat().st_size)


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """Let this process write no file past a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_journal_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """Without room for it a broker does not start, says so, and does not keep what little room there is."""
    folder = DataFolder(tmp_path / "data")
    with longest_file(FILE_BYTES // 2):
        why = refused(folder)
    assert f"the journal {folder.path / 'journal'} cannot be made" in why
    assert [folder.path / "broker.lock"] == list(folder.path.iterdir())
    open_journal(folder).close()
    folder.close()


FULL_DISK = """
import asyncio, os, sys
from pathlib import Path
from broker.adapters.data_folder import DataFolder
from broker.adapters.journal import open_journal
from tests.contract.test_journal import all_places, received

folder = DataFolder(Path(sys.argv[1]) / "data")
journal = open_journal(folder)
try:
    with open(sys.argv[1] + "/rest", "wb", buffering=0) as rest:
        while True:
            rest.write(bytes(4096))
except OSError as error:
    assert "No space" in str(error), error
places = all_places(journal)
async def fill():
    for number, place in enumerate(places):
        await journal.write(place, received(number, b"x" * 20_000))
asyncio.run(fill())
journal.close()
print(len(open_journal(folder).found()) == len(places))
"""


def test_a_full_disk_is_survived_by_what_was_allocated(tmp_path: Path) -> None:
    """With the file system full to its last block every place still takes an entry, and the next start finds all."""
    program = f'mount -t tmpfs -o size=40M none "{tmp_path}" && exec "{sys.executable}" -c "$1" "{tmp_path}"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", program, "sh"]
    if subprocess.run([*unshare, "print()"], check=False, capture_output=True).returncode:  # noqa: S603 - ours
        pytest.skip("this machine lets nobody mount a small file system of their own")
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {**os.environ, **paths}
    ran = subprocess.run([*unshare, FULL_DISK], check=False, capture_output=True, text=True, env=environment)  # noqa: S603 - ours
    assert ("", "True\n") == (ran.stderr, ran.stdout)


# --- entries ---------------------------------------------------------------------------------------------------------


async def test_the_longest_token_has_room(volume: FileVolume) -> None:
    """A refresh token as long as one may be, sealed, with an event whose every text is as long as one may be."""
    event = replace(received().event, actor="\x01" * 90_000, scopes="\N{SNOWMAN}" * 9_000, grant='"' * 900)
    longest = replace(received(ciphertext=b"x" * (MAX_TOKEN_CHARS + 100)), event=event.bounded())
    place = reserved(volume.journal)
    await volume.journal.write(place, longest)
    assert [(place, longest)] == list(volume.restart().found())


async def test_an_entry_longer_than_a_place_is_refused(volume: FileVolume) -> None:
    """It would lie over the next one; nothing is written and both places stay as they are."""
    first, second = reserved(volume.journal), reserved(volume.journal)
    await volume.journal.write(second, received())
    with pytest.raises(JournalError):
        await volume.journal.write(first, received(ciphertext=b"x" * PLACE_BYTES))
    assert 1 == volume.journal.held
    assert [(second, received())] == list(volume.restart().found())


def place_bytes(path: Path, place: int) -> bytes:
    """Return what lies in a place."""
    with path.open("rb") as file:
        file.seek((place + 1) * PLACE_BYTES)
        return file.read(PLACE_BYTES)


def put_place_bytes(path: Path, place: int, data: bytes) -> None:
    """Let a place hold what a torn write left."""
    with path.open("r+b") as file:
        file.seek((place + 1) * PLACE_BYTES)
        file.write(data)


SECTORS = range(0, PLACE_BYTES, SECTOR)


@given(
    old=st.integers(1, 6_000),
    new=st.integers(1, 6_000),
    cleared=st.booleans(),
    over=st.integers(0, 2),
    torn=st.integers(0, PLACE_BYTES) | st.sets(st.sampled_from(SECTORS)),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_torn_entry_is_none(
    volume: FileVolume, old: int, new: int, cleared: bool, over: int, torn: int | set[int]
) -> None:
    """Cut at any byte, or with any of its sectors on the disk and others not, an entry is there whole or not at all."""
    entries = [received(1, b"old" * old), received(2, b"new" * new)]
    place = volume.journal._free[-1]
    images = [place_bytes(volume.file, place)]
    await volume.journal.write(place, entries[0])
    images.append(place_bytes(volume.file, place))
    if cleared:
        await volume.journal.clear(place)
        images.append(place_bytes(volume.file, place))
    await volume.journal.write(place, entries[1])
    before, after = images[min(over, len(images) - 1)], place_bytes(volume.file, place)
    if isinstance(torn, int):
        left = after[:torn] + before[torn:]
    else:
        left = b"".join((after if at in torn else before)[at : at + SECTOR] for at in SECTORS)
    put_place_bytes(volume.file, place, left)
    found = list(volume.restart().found())
    await volume.journal.clear(place)
    volume.restart()
    wholes = zip(entries, (images[1], after), strict=True)
    assert [(place, entry) for entry, image in wholes if _holds(left, image)] == found


def _holds(place: bytes, image: bytes) -> bool:
    """Tell whether every byte of an entry lies in a place, whatever follows it."""
    length = int.from_bytes(image[:4], "big") + 36
    return place[:length] == image[:length]


@given(at=st.integers(0, 200), flip=st.integers(1, 255))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_damaged_entry_is_none(volume: FileVolume, at: int, flip: int) -> None:
    """One wrong byte, wherever it lies, and the entry is not believed; the others are found all the same."""
    places = [1, 2]
    for place in places:
        await volume.journal.write(place, received(place))
    sound = place_bytes(volume.file, 1)
    put_place_bytes(volume.file, 1, sound[:at] + bytes([sound[at] ^ flip]) + sound[at + 1 :])
    found = list(volume.restart().found())
    for place in places:
        await volume.journal.clear(place)
    volume.restart()
    assert [(2, received(2))] == found


# --- other versions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"journal 1", b"journal 2", 1),
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:10],
        lambda _: b"",
    ],
    ids=["another version", "cut", "grown", "cut in its header", "empty"],
)
async def test_a_journal_of_another_version_is_refused(volume: FileVolume, change: object) -> None:
    """What it holds may be a grant's only token: it is left as it is, and the operator is told what to do."""
    content = change(volume.file.read_bytes())  # type: ignore[operator]  # each is a function
    volume.file.write_bytes(content)
    assert "of another version" in refused(volume.folder)
    assert content == volume.file.read_bytes()


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"\xff", b'{"grant_id": 1, "event": "{}"}'])
async def test_an_entry_of_another_version_is_refused(
    volume: FileVolume, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole entry that this version cannot read is left to the one that wrote it."""
    place = reserved(volume.journal)
    monkeypatch.setattr(journal_file, "_to_bytes", lambda _: payload)
    await volume.journal.write(place, received())
    assert "newer version" in refused(volume.folder)
