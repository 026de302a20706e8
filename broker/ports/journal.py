"""The journal: received tokens the store did not take at once, on this process's own disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.sealing import Sealed


@dataclass(frozen=True, slots=True)
class ReceivedToken:
    """A refresh token a provider gave, sealed: exactly what `GrantStore.keep_and_land` takes."""

    grant_id: str
    land: lease.Land
    sealed: Sealed
    event: AuditEvent
    announce: bool


@dataclass(frozen=True, slots=True)
class ReceivedLogin:
    """What a provider gave for a login's code, sealed: exactly what `AuthorizationStore.receive_login` takes.

    Attributes:
        id: the login's; grant_id: of the grant it is for.
        granted: wire scopes, sorted.
    """

    id: str
    grant_id: str
    sealed: Sealed
    granted: tuple[str, ...]
    event: AuditEvent


Received = ReceivedToken | ReceivedLogin
"""What a journal keeps."""


class JournalError(Exception):
    """The disk did not take an entry."""


class Journal(Protocol):
    """A fixed number of places, allocated before anything is sent, so that a full disk finds them there.

    Attributes:
        volume: random id of the data volume, the same for every process that starts on it.
    """

    @property
    def volume(self) -> str:
        """The data volume's id."""

    @property
    def held(self) -> int:
        """How many entries it holds, or may hold."""

    def reserve(self) -> int | None:
        """Take a free place, or None when there is none."""

    def release(self, place: int) -> None:
        """Give back a place; one that holds an entry stays taken."""

    async def write(self, place: int, received: Received) -> None:
        """Write an entry; durable when this returns.

        Raises:
            JournalError: the disk did not take it.
        """

    async def clear(self, place: int) -> None:
        """Remove an entry: the store has it. The place stays taken until it is released.

        Raises:
            JournalError: the disk did not take that; the entry may still be there.
        """

    def found(self) -> Sequence[tuple[int, Received]]:
        """Return what a process before this one left, as it was when the journal was opened."""
