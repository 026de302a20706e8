"""Reading the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.core.audit import Action, AuditEvent
from broker.core.errors import InvalidRequestError
from broker.flows.trail import Trail
from broker.ports import AuditLog, AuditSink, Clock

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000


class ListEvents:
    """Return the newest events."""

    def __init__(self, *, log: AuditLog, audit: AuditSink, clock: Clock) -> None:
        self._log = log
        self._audit = audit
        self._clock = clock

    async def __call__(self, limit: int, trail: Trail) -> Sequence[AuditEvent]:
        """Return at most `limit` events, newest first; 0 means 100.

        Raises:
            InvalidRequestError: the limit is not 0 to 1000.
            AuditUnavailableError: the log cannot be read now.
        """
        if not 0 <= limit <= MAX_LIMIT:
            problem = f"0 to {MAX_LIMIT}"
            raise InvalidRequestError(f"the limit is {problem}", fields={"limit": problem})
        await self._audit.record(trail.event(Action.ADMIN_READ, self._clock.now(), detail="audit"))
        return await self._log.newest(limit or DEFAULT_LIMIT)
