"""How far the store in memory has come, and the grants held because there is evidence of more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from broker.adapters.memory.base import Base
from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.evidence import Landmark, Position
from broker.core.grant_state import GrantState, Hold
from broker.core.models import Kind
from broker.ports import Suspect


class MemorySuspects(Base):
    """The RollbackStore port."""

    async def position(self) -> Position | None:
        """Return the number of tokens received."""
        return Position("memory", 0, sum(grant.state.generation for grant in self._grants.values()))

    async def known_landmarks(self, grant_ids: Sequence[str]) -> Mapping[str, Landmark]:
        """Return how far these grants are known to have come."""
        states = {id_: self._grants[id_].state for id_ in grant_ids if id_ in self._grants}
        return {id_: Landmark(state.attempt, state.generation) for id_, state in states.items()}

    async def hold_suspect(self, grant_id: str, evidence: Landmark, found_at: datetime, record: AuditEvent) -> bool:
        """Freeze a grant as a suspect."""
        known, since = self._suspects.get(grant_id, (Landmark(-1, -1), found_at))
        grant = self._grants.get(grant_id)
        if grant is None or grant.state.hold not in {Hold.NONE, Hold.FROZEN} or not known.is_behind(evidence):
            return False
        self._suspects[grant_id] = (known.joined(evidence), since)
        self._step(grant_id, lease.Freeze())
        self._tell_ended(grant_id, self._changed(record, [(Kind.GRANT, grant_id)]))
        return True

    async def list_suspects(self, after: str, limit: int) -> Sequence[Suspect]:
        """Return suspects in the order of their names."""
        found = []
        for id_, (evidence, found_at) in self._suspects.items():
            grant = self._grants.get(id_)
            if grant is not None and grant.state.hold is Hold.FROZEN and grant.name > after:
                known = Landmark(grant.state.attempt, grant.state.generation)
                found.append(Suspect(grant.name, known, evidence, found_at))
        return sorted(found, key=lambda suspect: suspect.grant)[:limit]

    async def release(self, grant_id: str, *, abandon: bool, record: AuditEvent) -> GrantState | None:
        """Let a suspect go."""
        if grant_id not in self._suspects:
            return None
        evidence, _ = self._suspects[grant_id]
        after = self._step(grant_id, lease.Release(evidence.attempt, evidence.generation, abandon))
        if after is not None:
            del self._suspects[grant_id]
            self._changed(record, [(Kind.GRANT, grant_id)])
        return after
