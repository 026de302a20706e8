"""How far a database had come, told by something outside of it: what a restored backup cannot know of itself.

A database that is behind its evidence was rolled back, and may hold refresh tokens that were spent since. Attempts and
generations of a grant only grow, whatever happens to it; so the comparison is exact, grant by grant.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Landmark:
    """How far a grant had come: the newest attempt that sent a token, the number of tokens that became current."""

    attempt: int
    generation: int

    def joined(self, other: Landmark) -> Landmark:
        """Return the furthest that either tells of."""
        return Landmark(max(self.attempt, other.attempt), max(self.generation, other.generation))

    def is_behind(self, evidence: Landmark) -> bool:
        """Tell whether there is evidence of more than this."""
        return self.attempt < evidence.attempt or self.generation < evidence.generation


@dataclass(frozen=True, slots=True)
class Position:
    """How far a database as a whole had come.

    Attributes:
        database: which one: PostgreSQL's system identifier, or `sqlite`.
        timeline: of PostgreSQL; another one begins with each recovery and each failover.
        offset: bytes of PostgreSQL's log, or the rotations SQLite counted; it only grows.
    """

    database: str
    timeline: int
    offset: int

    def is_after(self, before: Position) -> bool:
        """Tell whether nothing that was committed at `before` can be missing here."""
        same = (self.database, self.timeline) == (before.database, before.timeline)
        return same and self.offset >= before.offset
