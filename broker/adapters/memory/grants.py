"""Grants, their redeem and their history, in memory: the core's own steps on a dictionary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from broker.adapters.memory.base import Base
from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.globs import matches
from broker.core.grant_state import (
    GrantState,
    Health,
    Hold,
    Phase,
    display_state,
    lease_over,
    newest_new,
    to_revoke,
    was_used,
)
from broker.core.models import Grant, Kind
from broker.core.sealing import Sealed
from broker.core.settled import settled
from broker.ports import AttemptRecord, GrantReading, StoredRefreshToken

_ATTEMPTS_KEPT: Final = 200


class MemoryGrants(Base):
    """The GrantStore port."""

    async def find_grant(self, name: str) -> Grant | None:
        """Return the grant of this name with its row alone, or None."""
        return next((_bare(grant) for grant in self._grants.values() if grant.name == name), None)

    async def get_grant(self, grant_id: str) -> Grant | None:
        """Return the grant of this id with its state, tokens and open sends, or None."""
        return self._grants.get(grant_id)

    async def get_state(self, grant_id: str) -> GrantReading | None:
        """Return a grant's row alone and the clock, or None."""
        grant = self._grants.get(grant_id)
        return None if grant is None else GrantReading(_bare(grant).state, self._now())

    async def match_grants(self, patterns: Sequence[str], limit: int) -> Sequence[str]:
        """Return names of at most `limit` grants, in any state but revoked, that match one of the glob patterns."""
        usable = (grant.name for grant in self._grants.values() if display_state(grant.state) != "revoked")
        return sorted(name for name in usable if any(matches(pattern, name) for pattern in patterns))[:limit]

    async def list_grants(self, after: str, limit: int) -> Sequence[Grant]:
        """Return grants in name order, from the first name greater than `after`, without their tokens."""
        by_name = sorted(self._grants.values(), key=lambda grant: grant.name)
        return [_bare(grant) for grant in by_name if grant.name > after][:limit]

    async def grant_counts(self) -> Mapping[str, int]:
        """Return the number of grants by display state."""
        counted = Counter(display_state(grant.state) for grant in self._grants.values())
        return {state: counted[state] for state in ("ok", "quarantined", "unknown", "frozen", "revoked")}

    async def apply(
        self, grant_id: str, event: lease.Event, *, record: AuditEvent | None = None, announce: bool = False
    ) -> GrantState | None:
        """Run one step of the redeem; return the state after it, or None when it did not happen.

        Raises:
            TypeError: the event has a method of its own.
        """
        if isinstance(event, lease.OF_THEIR_OWN):
            msg = f"{type(event).__name__} has a method of its own"
            raise TypeError(msg)
        after = self._step(grant_id, event)
        if record is not None and after is not None and after.health is Health.QUARANTINED:
            self._put_event(record)
        if announce and after is not None:
            self._end_older(grant_id, after.attempt)
        if isinstance(event, lease.TokenRevoked):
            self._sealed.pop((grant_id, event.fingerprint), None)
        if isinstance(event, lease.NotSent) and after is not None:
            self._replace(
                grant_id, event.attempt, lambda line: line if line.outcome else replace(line, outcome="not_sent")
            )
        return after

    async def licence(self, sent: lease.Sent, record: AttemptRecord) -> GrantState | None:
        """Run Sent and note the send as open."""
        after = self._step(record.grant_id, sent)
        if after is not None:
            self._attempts.setdefault(record.grant_id, []).append(record)
            self._opened.add((record.grant_id, record.attempt))
        return after

    async def probe(self, grant_id: str, owner: str) -> GrantState | None:
        """Run Probe with what is known of the owners of open sends."""
        grant = self._grants.get(grant_id)
        if grant is None:
            return None
        is_settled = settled(grant.state, self._replicas.values(), self._now(), self._times)
        return self._step(grant_id, lease.Probe(owner, is_settled))

    async def keep_and_land(
        self, grant_id: str, land: lease.Land, sealed: Sealed, received: AuditEvent, *, announce: bool = False
    ) -> GrantState:
        """Keep the token and run Land; a grant that was removed is shown as revoked."""
        before = self._grants.get(grant_id)
        received_token = StoredRefreshToken(land.fingerprint, land.consent, land.attempt, sealed)
        if before is None or all(token.fingerprint != land.fingerprint for token in before.state.tokens):
            self._sealed.setdefault((grant_id, land.fingerprint), received_token)
        self._put_event(received)
        after = self._step(grant_id, land)
        if before is None or after is None:
            return GrantState(hold=Hold.REVOKED)
        if after.generation > before.state.generation:
            self._forget_spent(grant_id, after)
            if announce:
                self._end_older(grant_id, land.attempt)
        return after

    async def keep_and_consent(  # noqa: PLR0913 - the port's signature
        self,
        grant_id: str,
        event: lease.Consented,
        expected_consent: int,
        sealed: Sealed,
        subject: str | None,
        received: AuditEvent,
        *,
        expected_attempt: int,
        person: str | None = None,
    ) -> GrantState | None:
        """Keep a first refresh token and run Consented; None if fenced off."""
        grant = self._grants.get(grant_id)
        if grant is None or (grant.state.consent, grant.state.attempt) != (expected_consent, expected_attempt):
            return None
        after = self._step(grant_id, event)
        if after is None:
            return None
        if any((kept.fingerprint, kept.attempt) == (event.fingerprint, after.attempt) for kept in after.tokens):
            first = StoredRefreshToken(event.fingerprint, after.consent, after.attempt, sealed)
            self._sealed[grant_id, event.fingerprint] = first
        self._grants[grant_id] = replace(
            grant,
            state=after,
            subject=grant.subject if subject is None else subject,
            person=grant.person if person is None else person,
        )
        self._changed(received, [(Kind.GRANT, grant_id)])
        return after

    async def hold(
        self, grant_id: str, event: lease.Freeze | lease.Unfreeze | lease.Revoke | lease.Settle, record: AuditEvent
    ) -> GrantState | None:
        """Run what operators want of a grant, and tell of its access tokens that end with it."""
        if isinstance(event, lease.Unfreeze) and grant_id in self._suspects:
            return None
        after = self._step(grant_id, event)
        if after is None:
            return None
        version = self._changed(record, [(Kind.GRANT, grant_id)])
        if isinstance(event, lease.Freeze | lease.Revoke):
            self._tell_ended(grant_id, version)
        return after

    def _end_older(self, grant_id: str, attempt: int) -> None:
        self._tell_ended(grant_id, self._moved([(Kind.GRANT, grant_id)]), attempt)
        now = self._now()
        for key, row in self._access.items():
            if key.grant_id == grant_id and row.token is not None and row.token.attempt < attempt:
                row.expires_at, row.renew_at = min(row.expires_at, now), None

    def _forget_spent(self, grant_id: str, state: GrantState) -> None:
        """Forget spent tokens of long ago, but those the provider is to be told of."""
        first = state.generation - lease.GENERATIONS_KEPT
        told_of = {token.fingerprint for token in to_revoke(state)}
        tokens = tuple(
            token
            for token in state.tokens
            if token.generation >= first
            or not was_used(token)
            or token.fingerprint == state.current
            or token.fingerprint in told_of
        )
        self._grants[grant_id] = replace(self._grants[grant_id], state=replace(state, tokens=tokens))

    async def current_refresh_token(self, grant_id: str) -> StoredRefreshToken | None:
        """Return the sealed current refresh token, or None when the grant never had one."""
        grant = self._grants.get(grant_id)
        current = None if grant is None else grant.state.current
        return None if current is None else await self.refresh_token(grant_id, current)

    async def refresh_token(self, grant_id: str, fingerprint: str) -> StoredRefreshToken | None:
        """Return one sealed refresh token, or None when it is not there or its sealed value is gone."""
        return self._sealed.get((grant_id, fingerprint))

    async def unsettled(self, after: str, limit: int) -> Sequence[str]:
        """Return ids of at most `limit` grants, greater than `after` and in order, that somebody has to move on."""
        now = self._now()
        found = (grant.id for grant in self._grants.values() if grant.id > after and _is_unsettled(grant.state, now))
        return sorted(found)[:limit]

    async def record_attempt(self, record: AttemptRecord) -> None:
        """Note the outcome of an attempt, which closes its send."""
        self._step(record.grant_id, lease.Closed(record.attempt))
        lines = self._attempts.setdefault(record.grant_id, [])
        if (record.grant_id, record.attempt) in self._opened:
            self._replace(record.grant_id, record.attempt, lambda _: record)
        else:
            lines.append(record)
        lines[:] = [line for line in lines[:-_ATTEMPTS_KEPT] if not line.outcome] + lines[-_ATTEMPTS_KEPT:]

    async def list_attempts(self, grant_id: str, limit: int) -> Sequence[AttemptRecord]:
        """Return the newest attempts first."""
        return list(reversed(self._attempts.get(grant_id, ())))[:limit]

    def _replace(self, grant_id: str, attempt: int, by: Callable[[AttemptRecord], AttemptRecord]) -> None:
        lines = self._attempts.get(grant_id, [])
        lines[:] = [by(line) if line.attempt == attempt else line for line in lines]


def _is_unsettled(state: GrantState, now: int) -> bool:
    over = lease_over(state, now)
    new, in_window = newest_new(state) is not None, state.replay_until is not None and state.replay_until > now
    left_behind = over and (
        state.phase is Phase.SENT or (state.phase is Phase.PREPARED and state.first_sent_at is not None)
    )
    worth_a_try = state.phase is Phase.UNKNOWN and (new or not in_window or state.sends < lease.MAX_SENDS)
    stuck = (left_behind or worth_a_try) and state.hold is Hold.NONE and state.not_before <= now
    beside = new and state.health is Health.QUARANTINED and state.hold in {Hold.NONE, Hold.FROZEN}
    ending = state.hold is Hold.REVOKING and (state.phase not in {Phase.PREPARED, Phase.SENT} or over)
    late = bool(to_revoke(state)) and state.hold is not Hold.REVOKING
    return stuck or beside or ending or late


def _bare(grant: Grant) -> Grant:
    return replace(grant, state=replace(grant.state, tokens=(), open_sends=()))
