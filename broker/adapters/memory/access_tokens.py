"""Cached access tokens and the processes of the broker, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from broker.adapters.memory.base import AccessRow, Base
from broker.core import lease
from broker.core.grant_state import GrantState, Hold, Phase
from broker.core.models import AccessTokenKey
from broker.core.scope_sets import check_one_more
from broker.core.settled import Replica
from broker.ports import DueToken, EndedToken, StoredAccessToken


class MemoryAccessTokens(Base):
    """The ports AccessTokenStore and ReplicaStore."""

    async def find_access_tokens(self, keys: Sequence[AccessTokenKey]) -> Mapping[AccessTokenKey, StoredAccessToken]:
        """Return live cached tokens for the keys."""
        rows = {key: self._access[key] for key in keys if key in self._access}
        found = {key: self._live(row) for key, row in rows.items()}
        return {key: token for key, token in found.items() if token is not None}

    async def finish(
        self, grant_id: str, event: lease.Finish, token: StoredAccessToken | None, asked_by: str
    ) -> GrantState | None:
        """Store the access token (only over a lower attempt) and run Finish."""
        if token is not None:
            row = self._access.setdefault(token.key, AccessRow(attempt=-1))
            if row.attempt < token.attempt:
                if row.expires_at <= self._now():
                    row.asked_by = asked_by
                self._put_token(row, token)
        after = self._step(grant_id, event)
        grant = self._grants.get(grant_id)
        if after is not None or grant is None or event.again is None:
            return after
        said_before = (Phase.PREPARED, event.attempt + 1, event.again)
        state = grant.state
        return state if (state.phase, state.attempt, state.owner) == said_before else None

    async def take_access(self, key: AccessTokenKey, owner: str, asked_by: str) -> int | None:
        """Lease one client_credentials cache key; return the attempt, or None while another owner's lease lives.

        Raises:
            ScopeSetsError: with this key too many of the grant, or of `asked_by`, would be alive.
        """
        check_one_more(await self.live_scope_sets(key.grant_id, key), asked_by)
        row = self._access.setdefault(key, AccessRow())
        if row.lease_until > self._now():
            return None
        if row.expires_at <= self._now():
            row.asked_by = asked_by
        row.attempt += 1
        row.owner = owner
        row.lease_until = self._now() + self._times.lease
        return row.attempt

    async def put_access(self, token: StoredAccessToken) -> bool:
        """Store a client_credentials token over a lower-or-equal attempt and free the lease; False when fenced off."""
        row = self._access.setdefault(token.key, AccessRow(attempt=-1))
        if row.attempt > token.attempt:
            return False
        self._put_token(row, token)
        return True

    async def release_access(self, key: AccessTokenKey, attempt: int) -> None:
        """Free the lease without a token."""
        row = self._access.get(key)
        if row is not None and row.attempt == attempt:
            row.owner = None
            row.lease_until = 0

    async def live_scope_sets(self, grant_id: str, now_key: AccessTokenKey) -> Sequence[str]:
        """Return who first asked for each other key of the grant and epoch with an unexpired token or a live lease."""
        now = self._now()
        return [
            row.asked_by
            for key, row in self._access.items()
            if key != now_key
            and (key.grant_id, key.epoch) == (grant_id, now_key.epoch)
            and max(row.expires_at, row.lease_until) > now
        ]

    async def live_access_tokens(self, grant_id: str) -> Sequence[StoredAccessToken]:
        """Return every token of the grant that still lives."""
        found = [self._live(row) for key, row in self._access.items() if key.grant_id == grant_id]
        return [token for token in found if token is not None]

    async def note_used(self, keys: Sequence[AccessTokenKey]) -> None:
        """Note that tokens of these keys were handed out lately."""
        for key in keys:
            if key in self._access:
                self._access[key].used_at = self._now()

    async def due_tokens(self, limit: int, again_ms: int) -> Sequence[DueToken]:
        """Return tokens whose time to be renewed has come and that were handed out within their life."""
        now = self._now()
        due = sorted((row for row in self._access.values() if self._is_due(row, now)), key=lambda row: row.expires_at)[
            :limit
        ]
        found = []
        for row in due:
            row.renew_at = now + again_ms
            if row.token is not None:  # pragma: no branch - what is due has one
                key = row.token.key
                name, left = self._grants[key.grant_id].name, row.expires_at - now
                found.append(DueToken(name, key, row.token.fingerprint, row.asked_by, left))
        return found

    async def ended_since(self, version: int, limit: int) -> Sequence[EndedToken] | None:
        """Return tokens ended after `version`; None when too long ago, or too many, to tell."""
        if not self._is_named(version):
            return None
        found = [ended for ended in self._ended if ended.version > version]
        return None if len(found) > limit else found

    async def beat(
        self,
        owner: str,
        volume: str,
        leases: Sequence[tuple[str, int]],
        access_leases: Sequence[tuple[AccessTokenKey, int]],
    ) -> None:
        """Note that a process lives, and extend its leases."""
        before = self._replicas.get(owner)
        drained_at = None if before is None else before.drained_at
        self._replicas[owner] = Replica(owner, volume, self._now(), drained_at)
        for grant_id, attempt in leases:
            self._step(grant_id, lease.Extend(attempt))
        for key, attempt in access_leases:
            row = self._access.get(key)
            if row is not None and row.attempt == attempt and row.owner is not None:
                row.lease_until = self._now() + self._times.lease

    async def drained(self, owner: str) -> None:
        """Note that the journal on the owner's volume was found empty."""
        known = self._replicas.get(owner)
        if known is not None:
            self._replicas[owner] = replace(known, drained_at=self._now())

    def _is_due(self, row: AccessRow, now: int) -> bool:
        if row.token is None or row.renew_at is None or not row.renew_at <= now < row.expires_at:
            return False
        grant = self._grants.get(row.token.key.grant_id)
        wanted = grant is not None and grant.state.hold is Hold.NONE and grant.state.epoch == row.token.key.epoch
        return wanted and row.used_at > max(0, now - row.token.life_ms)  # 0: never

    def _live(self, row: AccessRow) -> StoredAccessToken | None:
        now = self._now()
        if row.token is None or row.expires_at <= now:
            return None
        renew_ms = None if row.renew_at is None else row.renew_at - now
        return replace(row.token, remaining_ms=row.expires_at - now, renew_ms=renew_ms)

    def _put_token(self, row: AccessRow, token: StoredAccessToken) -> None:
        now = self._now()
        row.attempt = token.attempt
        row.token = token
        row.expires_at = now + token.remaining_ms
        row.renew_at = None if token.renew_ms is None else now + token.renew_ms
        row.owner = None
        row.lease_until = 0
