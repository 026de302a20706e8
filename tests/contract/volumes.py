"""The journals the contract suite runs over, each on a volume that can be opened again and whose disk can fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from broker.adapters.data_folder import DataFolder
from broker.adapters.journal import FileJournal, open_journal
from broker.adapters.memory.journal import MemoryJournal
from broker.ports import Journal


class Volume(Protocol):
    """A data volume."""

    @property
    def journal(self) -> Journal:
        """The journal of the process that has the volume."""

    def restart(self) -> Journal:
        """End that process; return the journal of the next."""

    def broken(self) -> AbstractContextManager[None]:
        """Let the disk take nothing while the block runs."""

    def close(self) -> None:
        """End the process."""


class MemoryVolume:
    """A volume in memory."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()

    def restart(self) -> MemoryJournal:
        self.journal = self.journal.reopened()
        return self.journal

    @contextmanager
    def broken(self) -> Iterator[None]:
        self.journal.broken = True
        yield
        self.journal.broken = False

    def close(self) -> None:
        """Nothing is open."""


class FileVolume:
    """A folder; the journal's descriptor is turned to /dev/full for as long as the disk is broken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    @property
    def file(self) -> Path:
        """The journal's file."""
        return self.path / "journal"

    def restart(self) -> FileJournal:
        self.close()
        self._open()
        return self.journal

    @contextmanager
    def broken(self) -> Iterator[None]:
        descriptor = self.journal._descriptor
        sound, full = os.dup(descriptor), os.open("/dev/full", os.O_RDWR)
        os.dup2(full, descriptor)
        yield
        os.dup2(sound, descriptor)
        for temporary in (sound, full):
            os.close(temporary)

    def close(self) -> None:
        self.journal.close()
        self.folder.close()

    def _open(self) -> None:
        self.folder = DataFolder(self.path)
        try:
            self.journal = open_journal(self.folder)
        except BaseException:
            self.folder.close()
            raise
