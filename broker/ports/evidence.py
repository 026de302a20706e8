"""Evidence of how far the store had come, kept in another place than the store; and what a store tells of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broker.core.audit import AuditEvent
from broker.core.evidence import Landmark, Position
from broker.core.grant_state import GrantState


class EvidenceError(Exception):
    """The place did not take what was to be noted."""


class Evidence(Protocol):
    """Another place than the database's, which a restore of that does not reach."""

    def landmarks(self) -> Mapping[str, Landmark]:
        """Return the furthest noted of each grant, by its id."""

    def position(self) -> Position | None:
        """Return the position noted last."""

    async def note(self, landmarks: Mapping[str, Landmark], position: Position | None) -> None:
        """Add to what is noted; durable when this returns.

        Raises:
            EvidenceError: it was not taken.
        """


@dataclass(frozen=True, slots=True)
class Suspect:
    """A grant of which the store knows less than there is evidence of.

    Attributes:
        grant: its name.
        known: as the store has it; evidence: as it was noted.
        found_at: UTC.
    """

    grant: str
    known: Landmark
    evidence: Landmark
    found_at: datetime


class RollbackStore(Protocol):
    """How far the store has come, and the grants that are held because it had come further."""

    async def position(self) -> Position | None:
        """Return how far it has come, None where it cannot be told; whatever was committed before is not after it."""

    async def known_landmarks(self, grant_ids: Sequence[str]) -> Mapping[str, Landmark]:
        """Return how far it knows these grants to have come; those that are not there are left out."""

    async def hold_suspect(self, grant_id: str, evidence: Landmark, found_at: datetime, record: AuditEvent) -> bool:
        """Freeze a grant as a suspect, with its event and a new version; False when it is one with no less evidence.

        Nothing but `release` lets it go, or ends it but a revocation.
        """

    async def list_suspects(self, after: str, limit: int) -> Sequence[Suspect]:
        """Return suspects in the order of their names, from the first name greater than `after`."""

    async def release(self, grant_id: str, *, abandon: bool, record: AuditEvent) -> GrantState | None:
        """Run Release with the evidence there is, with its event and a new version; None when it is no suspect."""
