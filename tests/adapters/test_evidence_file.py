"""The file of evidence."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.adapters.data_folder import DataFolderRefusedError
from broker.adapters.evidence_file import FileEvidence, open_evidence
from broker.core.evidence import Landmark, Position
from broker.ports import EvidenceError

AT = Position("7423", 2, 1000)
Open = Callable[[], FileEvidence]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Open the evidence of one folder, after closing what was open."""
    last: list[FileEvidence] = []

    def open_again() -> FileEvidence:
        while last:
            last.pop().close()
        last.append(open_evidence(tmp_path / "other"))
        return last[0]

    yield open_again
    for evidence in last:
        evidence.close()


async def test_what_is_noted_is_found_again(opened: Open) -> None:
    """The furthest of each grant and the newest position, by the next process as well."""
    first = opened()
    assert ({}, None) == (first.landmarks(), first.position())
    await first.note({"g1": Landmark(3, 1), "g2": Landmark(1, 1)}, AT)
    await first.note({"g1": Landmark(2, 2)}, None)
    for evidence in (first, opened()):
        assert ({"g1": Landmark(3, 2), "g2": Landmark(1, 1)}, AT) == (evidence.landmarks(), evidence.position())


async def test_a_start_makes_many_lines_few(opened: Open, tmp_path: Path) -> None:
    """The file does not grow with every redeem for ever."""
    evidence = opened()
    for attempt in range(50):
        await evidence.note({"g1": Landmark(attempt, attempt)}, None)
    opened()
    assert 1 == len((tmp_path / "other" / "evidence").read_bytes().splitlines())


async def test_a_torn_line_does_not_count(opened: Open, tmp_path: Path) -> None:
    """Wherever a crash cut the last line, the others are there, and the next one is whole."""
    path = tmp_path / "other" / "evidence"
    await opened().note({"g1": Landmark(3, 1), "g2": Landmark(12345, 678)}, None)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        opened()
        path.write_bytes(whole[:end])
        evidence = opened()
        assert Landmark(3, 1) == evidence.landmarks()["g1"]
        await evidence.note({"g3": Landmark(1, 1)}, None)
        assert {"g1", "g3"} <= set(opened().landmarks())


async def test_lines_of_another_kind_do_not_stop_a_start(opened: Open, tmp_path: Path) -> None:
    """What nobody can read is left out."""
    opened()
    (tmp_path / "other" / "evidence").write_bytes(b"[]\n{}\n\xff\nnull\n" + b'{"grant": "g", "attempt": "x"}\n')
    assert {} == opened().landmarks()


def test_it_is_private_and_one_process_s_alone(opened: Open, tmp_path: Path) -> None:
    """Nobody else reads it, and a second broker is refused with a reason."""
    opened()
    assert 0o600 == stat.S_IMODE((tmp_path / "other" / "evidence").stat().st_mode)
    with pytest.raises(DataFolderRefusedError, match="another broker process"):
        open_evidence(tmp_path / "other")


def test_a_place_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "other").write_text("")
    with pytest.raises(DataFolderRefusedError, match="cannot be read or written"):
        open_evidence(tmp_path / "other")


async def test_what_the_disk_does_not_take_is_told(tmp_path: Path) -> None:
    """The error is the port's, and nothing counts as noted."""
    full = os.open("/dev/full", os.O_WRONLY)
    evidence = FileEvidence(full, os.open(tmp_path, os.O_RDONLY), {}, None)
    with pytest.raises(EvidenceError):
        await evidence.note({"g1": Landmark(1, 1)}, AT)
    assert ({}, None) == (evidence.landmarks(), evidence.position())
    evidence.close()
