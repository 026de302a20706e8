"""Evidence as a file of lines, one for each thing noted; the furthest counts, and a line torn by a crash does not.

{"grant": id, "attempt": 7, "generation": 3}
{"database": "7423…", "timeline": 1, "offset": 23462552}
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from broker.adapters.data_folder import DataFolderRefusedError
from broker.core.evidence import Landmark, Position
from broker.ports import EvidenceError

FILE_NAME: Final = "evidence"
LOCK_NAME: Final = "evidence.lock"


class FileEvidence:
    """The port Evidence on one file, this process's alone until it is closed."""

    def __init__(self, descriptor: int, lock: int, landmarks: dict[str, Landmark], position: Position | None) -> None:
        """Take over an open file and its lock; `open_evidence` makes them."""
        self._descriptor = descriptor
        self._lock = lock
        self._landmarks = landmarks
        self._position = position
        self._thread = ThreadPoolExecutor(1, "evidence")

    def landmarks(self) -> Mapping[str, Landmark]:
        """Return the furthest noted of each grant."""
        return dict(self._landmarks)

    def position(self) -> Position | None:
        """Return the position noted last."""
        return self._position

    async def note(self, landmarks: Mapping[str, Landmark], position: Position | None) -> None:
        """Add to what is noted; durable when this returns.

        Raises:
            EvidenceError: it was not taken.
        """
        data = _lines(landmarks, position)
        try:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._append, data))
        except OSError as error:
            raise EvidenceError(error.strerror or "input/output error") from error
        _join(self._landmarks, landmarks)
        self._position = position or self._position

    def close(self) -> None:
        """Let the next process have the file."""
        self._thread.shutdown()
        os.close(self._descriptor)
        os.close(self._lock)

    def _append(self, data: bytes) -> None:
        _write_all(self._descriptor, data)
        os.fdatasync(self._descriptor)


class NoEvidence:
    """The port Evidence where there is no other place: nothing is noted, and nothing can be found out."""

    def landmarks(self) -> Mapping[str, Landmark]:
        """Return nothing."""
        return {}

    def position(self) -> Position | None:
        """Return nothing."""
        return None

    async def note(self, landmarks: Mapping[str, Landmark], position: Position | None) -> None:
        """Forget it."""


def open_evidence(folder: Path) -> FileEvidence:
    """Open the evidence in a folder, or make it; each grant's lines become one.

    Raises:
        DataFolderRefusedError: it cannot be read or written, or another process has it.
    """
    path, lock = folder / FILE_NAME, -1
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        landmarks, position = _read(path)
        _write_anew(path, _lines(landmarks, position))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if lock >= 0:
            os.close(lock)
        if isinstance(error, BlockingIOError):
            msg = f"another broker process keeps its evidence in {folder}: each needs a folder of its own"
        else:
            msg = f"the evidence {path} cannot be read or written: {error.strerror}"
        raise DataFolderRefusedError(msg) from error
    return FileEvidence(descriptor, lock, landmarks, position)


def _read(path: Path) -> tuple[dict[str, Landmark], Position | None]:
    landmarks: dict[str, Landmark] = {}
    position: Position | None = None
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in lines:
        try:
            facts: dict[str, Any] = json.loads(line)
            if "grant" in facts:
                _join(landmarks, {str(facts["grant"]): Landmark(int(facts["attempt"]), int(facts["generation"]))})
            else:
                position = Position(str(facts["database"]), int(facts["timeline"]), int(facts["offset"]))
        except (ValueError, KeyError, TypeError):  # torn: nobody was told that it was noted
            continue
    return landmarks, position


def _write_anew(path: Path, data: bytes) -> None:
    """Write the file beside the old one, then put it in its place."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lines(landmarks: Mapping[str, Landmark], position: Position | None) -> bytes:
    facts: list[dict[str, object]] = [
        {"grant": grant_id, "attempt": landmark.attempt, "generation": landmark.generation}
        for grant_id, landmark in landmarks.items()
    ]
    if position is not None:
        facts.append({"database": position.database, "timeline": position.timeline, "offset": position.offset})
    return b"".join(json.dumps(fact).encode() + b"\n" for fact in facts)


def _join(into: dict[str, Landmark], landmarks: Mapping[str, Landmark]) -> None:
    for grant_id, landmark in landmarks.items():
        into[grant_id] = landmark.joined(into.get(grant_id, landmark))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
