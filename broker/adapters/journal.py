"""The journal: one file of places of equal size, written with zeros at the start so that a full disk finds them there.

    header     MAGIC, the volume's id
    place      length (4 bytes), SHA-256 of the payload, payload (JSON); all zeros when free

A place is written by one write and synced; a torn one does not have the digest it names, and counts as free: nobody was
told that it was written.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from broker.adapters.data_folder import DataFolder, DataFolderRefusedError
from broker.core import lease
from broker.core.audit import from_json, to_json
from broker.core.sealing import Sealed
from broker.ports import JournalError, Received, ReceivedLogin, ReceivedToken

FILE_NAME: Final = "journal"
PLACES: Final = 1024
"""Tokens that may be received at once."""
PLACE_BYTES: Final = 32 * 1024
"""Room for the longest token, sealed, and the longest event."""

_MAGIC: Final = b"aries-broker journal 1\n"
_ID_BYTES: Final = 16
_AT_ONCE: Final = 1024 * 1024
_LENGTH_BYTES: Final = 4
_FRONT_BYTES: Final = _LENGTH_BYTES + hashlib.sha256().digest_size


class FileJournal:
    """The port Journal on a file of the data folder."""

    def __init__(self, descriptor: int, volume: str, found: Sequence[tuple[int, Received]]) -> None:
        """Take over an open file; `open_journal` makes one."""
        self._descriptor = descriptor
        self._volume = volume
        self._found = tuple(found)
        self._holding = {place for place, _ in found}
        self._free = [place for place in reversed(range(PLACES)) if place not in self._holding]
        self._thread = ThreadPoolExecutor(1, "journal")

    @property
    def volume(self) -> str:
        """The data volume's id."""
        return self._volume

    @property
    def held(self) -> int:
        """How many entries it holds."""
        return len(self._holding)

    def reserve(self) -> int | None:
        """Take a free place, or None when there is none."""
        return self._free.pop() if self._free else None

    def release(self, place: int) -> None:
        """Give back a place; one that holds an entry stays taken."""
        if place not in self._holding:
            self._free.append(place)

    async def write(self, place: int, received: Received) -> None:
        """Write an entry; durable when this returns.

        Raises:
            JournalError: the disk did not take it.
        """
        payload = _to_bytes(received)
        if len(payload) > PLACE_BYTES - _FRONT_BYTES:
            raise JournalError("the entry is longer than a place")
        length = len(payload).to_bytes(_LENGTH_BYTES, "big")
        self._holding.add(place)  # also if the caller leaves: the thread goes on
        try:
            await self._in_thread(lambda: self._put(place, length + hashlib.sha256(payload).digest() + payload))
        except JournalError:
            self._holding.discard(place)
            raise

    async def clear(self, place: int) -> None:
        """Remove an entry: the store has it. The place stays taken until it is released.

        Raises:
            JournalError: the disk did not take that; the entry may still be there.
        """
        await self._in_thread(lambda: self._put(place, bytes(_FRONT_BYTES)))
        self._holding.discard(place)

    def found(self) -> Sequence[tuple[int, Received]]:
        """Return what a process before this one left."""
        return self._found

    def close(self) -> None:
        """End the thread, after what it is writing, and close the file."""
        self._thread.shutdown()
        os.close(self._descriptor)

    async def _in_thread(self, write: Callable[[], None]) -> None:
        # Shielded: a caller that is cancelled must not leave an entry half told of.
        try:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, write))
        except OSError as error:
            raise JournalError(error.strerror or "input/output error") from error

    def _put(self, place: int, data: bytes) -> None:
        _write_all(self._descriptor, data, _offset(place))
        os.fdatasync(self._descriptor)


def open_journal(folder: DataFolder) -> FileJournal:
    """Open the journal of a data folder, or make it.

    Raises:
        DataFolderRefusedError: it cannot be made or read, or is of another version.
    """
    path = folder.path / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        msg = f"the journal {path} cannot be made or opened: {error.strerror}"
        raise DataFolderRefusedError(msg) from error
    try:
        return FileJournal(descriptor, _read_volume(descriptor, path), _read_places(descriptor))
    except BaseException:
        os.close(descriptor)
        raise


def _make(path: Path) -> None:
    """Make an empty journal, all of it on the disk; one that was not finished is begun anew."""
    unfinished = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        unfinished.unlink()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _fill(descriptor)
    except BaseException:
        unfinished.unlink()
        raise
    finally:
        os.close(descriptor)
    unfinished.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _fill(descriptor: int) -> None:
    """Write every byte, not only allocate it: what was written needs no more room when it changes."""
    zeros = bytes(_AT_ONCE)
    for offset in range(0, _offset(PLACES), _AT_ONCE):
        _write_all(descriptor, zeros[: _offset(PLACES) - offset], offset)
    _write_all(descriptor, _MAGIC + secrets.token_bytes(_ID_BYTES), 0)
    os.fsync(descriptor)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


def _offset(place: int) -> int:
    return (place + 1) * PLACE_BYTES


def _read_volume(descriptor: int, path: Path) -> str:
    header = os.pread(descriptor, len(_MAGIC) + _ID_BYTES, 0)
    if not header.startswith(_MAGIC) or os.fstat(descriptor).st_size != _offset(PLACES):
        msg = (
            f"the journal {path} is of another version of the broker, or damaged: start that version once to empty it, "
            "or move the file away, with whatever was received and not stored"
        )
        raise DataFolderRefusedError(msg)
    return header[len(_MAGIC) :].hex()


def _read_places(descriptor: int) -> list[tuple[int, Received]]:
    found = []
    for place in range(PLACES):
        front = os.pread(descriptor, _FRONT_BYTES, _offset(place))
        length = int.from_bytes(front[:_LENGTH_BYTES], "big")
        if not 0 < length <= PLACE_BYTES - _FRONT_BYTES:
            continue
        payload = os.pread(descriptor, length, _offset(place) + _FRONT_BYTES)
        if hashlib.sha256(payload).digest() == front[_LENGTH_BYTES:]:
            found.append((place, _from_bytes(payload)))
    return found


def _to_bytes(received: Received) -> bytes:
    what = _login_members(received) if isinstance(received, ReceivedLogin) else _token_members(received)
    common = {
        "grant_id": received.grant_id,
        "key_id": received.sealed.key_id,
        "ciphertext": base64.b64encode(received.sealed.ciphertext).decode(),
        "event": to_json(received.event),
    }
    return json.dumps(common | what, ensure_ascii=False).encode()


def _token_members(received: ReceivedToken) -> dict[str, object]:
    land = received.land
    return {
        "attempt": land.attempt,
        "generation": land.generation,
        "consent": land.consent,
        "fingerprint": land.fingerprint,
        "announce": received.announce,
    }


def _login_members(received: ReceivedLogin) -> dict[str, object]:
    return {"login": received.id, "granted": received.granted}


def _from_bytes(payload: bytes) -> Received:
    try:
        kept = json.loads(payload)
        sealed = Sealed(kept["key_id"], base64.b64decode(kept["ciphertext"]))
        event = from_json(kept["event"])
        if "login" in kept:
            return ReceivedLogin(kept["login"], kept["grant_id"], sealed, tuple(kept["granted"]), event)
        land = lease.Land(kept["attempt"], kept["generation"], kept["consent"], kept["fingerprint"])
        return ReceivedToken(kept["grant_id"], land, sealed, event, kept["announce"])
    except (ValueError, KeyError, TypeError) as error:
        msg = "the journal holds an entry that only a newer version of the broker can read: start that one once"
        raise DataFolderRefusedError(msg) from error
