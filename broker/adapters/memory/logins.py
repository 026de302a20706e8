"""Logins under way, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from broker.adapters.memory.base import Base
from broker.core.audit import AuditEvent
from broker.core.authorization import OPEN_PHASES, Authorization, is_over, receive
from broker.ports import LoginReading, ReceivedLogin


class MemoryLogins(Base):
    """The AuthorizationStore port."""

    async def add_login(self, login: Authorization, life_ms: int, most_open: int, event: AuditEvent) -> int | None:
        """Store a new login with its event; None when its starter has enough open ones."""
        now = self._now()
        open_ones = [
            one
            for one, _ in self._logins.values()
            if one.facts.starter == login.facts.starter and one.phase in OPEN_PHASES and one.expires_at > now
        ]
        if len(open_ones) >= most_open:
            return None
        self._logins[login.facts.id] = (replace(login, expires_at=now + life_ms), now)
        self._put_event(event)
        return now + life_ms

    async def find_login(self, login_id: str) -> LoginReading | None:
        """Return the login of this id, or None."""
        return self._first(lambda login: login.facts.id == login_id)

    async def find_by_state(self, state: str) -> LoginReading | None:
        """Return the login whose state's digest this is, or None."""
        return self._first(lambda login: bool(state) and login.state == state)

    async def find_by_code(self, code: str) -> LoginReading | None:
        """Return the login whose one-time code's digest this is, or None."""
        return self._first(lambda login: bool(code) and login.code == code)

    async def move_login(self, after: Authorization, event: AuditEvent | None = None) -> bool:
        """Replace the row of the version before; False when it is of another."""
        before = self._logins.get(after.facts.id)
        if before is None or before[0].version != after.version - 1:
            return False
        self._logins[after.facts.id] = (after, self._now())
        if event is not None:
            self._put_event(event)
        return True

    async def receive_login(self, received: ReceivedLogin) -> bool:
        """Make the step `receive`; False when there is no such login."""
        before = self._logins.get(received.id)
        if before is None:
            return False
        after = receive(before[0], received.sealed, received.granted, self._now())
        if after is not None:
            self._logins[received.id] = (after, self._now())
            self._put_event(received.event)
        return True

    async def unsettled_logins(self, limit: int) -> Sequence[LoginReading]:
        """Return at most `limit` open logins whose time is over, the oldest first."""
        now = self._now()
        over = [one for one, _ in self._logins.values() if one.phase in OPEN_PHASES and one.expires_at <= now]
        return [LoginReading(one, now) for one in sorted(over, key=lambda one: one.expires_at)[:limit]]

    async def forget_logins(self, older_ms: int) -> None:
        """Remove logins that were over so long ago."""
        since = self._now() - older_ms
        forgotten = [id_ for id_, (one, moved_at) in self._logins.items() if is_over(one) and moved_at < since]
        for id_ in forgotten:
            del self._logins[id_]

    def _first(self, wanted: Callable[[Authorization], bool]) -> LoginReading | None:
        found = next((one for one, _ in self._logins.values() if wanted(one)), None)
        return None if found is None else LoginReading(found, self._now())
