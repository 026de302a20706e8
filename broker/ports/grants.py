"""Grants, their redeem, their tokens, and the processes that work on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.grant_state import GrantState
from broker.core.models import AccessTokenKey, Grant
from broker.core.sealing import Sealed


@dataclass(frozen=True, slots=True)
class StoredRefreshToken:
    """A refresh token of a grant, sealed, and the facts it is bound to."""

    fingerprint: str
    consent: int
    attempt: int
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class StoredAccessToken:
    """A cached access token as the store has it.

    Attributes:
        attempt: the attempt that got it.
        fingerprint: names it; keyed, so it tells nothing.
        granted: wire scopes the token really has, sorted.
        verified: the provider stated the scopes (reply or claim).
        life_ms: whole life as issued; remaining_ms: what is left by the database's clock, read in the same statement.
        renew_ms: how long from now it is left alone before it is renewed ahead of its end; None: not by itself.
        lifetime_assumed: `expires_in` was absent.
    """

    key: AccessTokenKey
    attempt: int
    sealed: Sealed
    fingerprint: str
    granted: tuple[str, ...]
    verified: bool
    life_ms: int
    remaining_ms: int
    renew_ms: int | None
    lifetime_assumed: bool


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One line of a grant's history.

    Attributes:
        outcome: an Outcome's value, `not_rotated`, or empty while nobody knows.
        cause: from a closed list, never from a peer.
        recorded_at: UTC, when the outcome was noted, or the send begun.
    """

    grant_id: str
    attempt: int
    owner: str
    secret_version: int
    recorded_at: datetime
    outcome: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class GrantReading:
    """A grant's row, and the store's clock when it was read, in milliseconds."""

    state: GrantState
    now: int


class GrantStore(Protocol):
    """Grants, their redeem, their sealed tokens. Every step is one short transaction; none is held over a call."""

    async def find_grant(self, name: str) -> Grant | None:
        """Return the grant of this name with its state but neither tokens nor open sends, or None."""

    async def get_grant(self, grant_id: str) -> Grant | None:
        """Return the grant of this id with its state, tokens and open sends, or None."""

    async def get_state(self, grant_id: str) -> GrantReading | None:
        """Return a grant's row alone, without tokens and open sends, or None; cheap however long its history."""

    async def match_grants(self, patterns: Sequence[str], limit: int) -> Sequence[str]:
        """Return names of at most `limit` grants, in any state but revoked, that match one of the glob patterns."""

    async def list_grants(self, after: str, limit: int) -> Sequence[Grant]:
        """Return grants in name order, from the first name greater than `after`."""

    async def grant_counts(self) -> Mapping[str, int]:
        """Return the number of grants by display state, from counters.

        The states are `ok`, `quarantined`, `unknown`, `frozen` and `revoked`.
        """

    async def apply(
        self, grant_id: str, event: lease.Event, *, record: AuditEvent | None = None, announce: bool = False
    ) -> GrantState | None:
        """Run one step of the redeem in a transaction of its own.

        Any event but Land and Consented, which carry a token, Sent, Closed and Probe, which depend on more than the
        row, and what operators do: those have methods of their own. `record` tells of a quarantine: it is
        stored in the same transaction (outbox) when the step happened and left the grant quarantined. `announce`, of a
        NotRotated, is that of `keep_and_land`.

        Return the state after it (tokens and open sends may be left out), or None when the step did not happen. A
        commit whose answer was lost is read back before this returns.
        """

    async def licence(self, sent: lease.Sent, record: AttemptRecord) -> GrantState | None:
        """Run Sent and note the send in the grant's history, without an outcome: it is open.

        Durable when this returns; None when the step did not happen.
        """

    async def probe(self, grant_id: str, owner: str) -> GrantState | None:
        """Run Probe with what the store knows of the owners of open sends (`core/settled.py`)."""

    async def keep_and_land(
        self, grant_id: str, land: lease.Land, sealed: Sealed, received: AuditEvent, *, announce: bool = False
    ) -> GrantState:
        """Insert the received token unconditionally and run Land, in one durable transaction with its event.

        Spent tokens of more than 100 generations ago are forgotten. With `announce` a landing ends the access
        tokens of earlier attempts, which the provider killed, tells of them and raises the version.

        Return the state afterwards; `current == land.fingerprint` tells whether it became the current one. Doing it
        again changes nothing but a second event. A grant that was removed is shown as revoked.
        """

    async def keep_and_consent(  # noqa: PLR0913 - one write
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
        """Insert a first refresh token and run Consented, with its event and a new version, in one transaction.

        The token is sealed for consent+1 and attempt+1 of the state read before, so both are fenced: None, and nothing
        written, when either moved since or the grant is held. A token that is there already is replaced while it was
        never sent nor refused. A `subject` or `person` of None leaves the grant's own.
        """

    async def hold(
        self, grant_id: str, event: lease.Freeze | lease.Unfreeze | lease.Revoke | lease.Settle, record: AuditEvent
    ) -> GrantState | None:
        """Run what operators want of a grant, with its event and a new version, in one transaction.

        A freeze or revocation tells in the same transaction of every access token of the grant that still lives, for
        those who watch. None, and nothing written, when the step did not happen.
        """

    async def current_refresh_token(self, grant_id: str) -> StoredRefreshToken | None:
        """Return the sealed current refresh token, or None when the grant never had one."""

    async def refresh_token(self, grant_id: str, fingerprint: str) -> StoredRefreshToken | None:
        """Return one sealed refresh token, or None when it is not there or its sealed value is gone."""

    async def unsettled(self, after: str, limit: int) -> Sequence[str]:
        """Return ids of at most `limit` grants, greater than `after` and in order, that somebody has to move on.

        Those in doubt whose lease is over, which do not back off and for which anything can be tried, quarantined ones
        with a token never sent, those that are being revoked and which nobody works on, and those with tokens the
        provider has to be told of.
        """

    async def record_attempt(self, record: AttemptRecord) -> None:
        """Note the outcome of an attempt, which closes its send; of a long history the newest 200 lines stay."""

    async def list_attempts(self, grant_id: str, limit: int) -> Sequence[AttemptRecord]:
        """Return the newest attempts first."""


@dataclass(frozen=True, slots=True)
class DueToken:
    """A cached access token to be renewed.

    Attributes:
        grant: the grant's name.
        fingerprint: of the token there is.
        asked_by: who first asked for it.
    """

    grant: str
    key: AccessTokenKey
    fingerprint: str
    asked_by: str
    remaining_ms: int


@dataclass(frozen=True, slots=True)
class EndedToken:
    """An access token that is not to be used any more, though its provider may still honour it.

    Attributes:
        version: the store's version its end was committed with.
        granted: the wire scopes it carries.
    """

    version: int
    grant: str
    fingerprint: str
    granted: tuple[str, ...]


class AccessTokenStore(Protocol):
    """Cached access tokens, sealed, and the leases of client_credentials keys."""

    async def find_access_tokens(self, keys: Sequence[AccessTokenKey]) -> Mapping[AccessTokenKey, StoredAccessToken]:
        """Return live cached tokens for the keys, all in one statement."""

    async def finish(
        self, grant_id: str, event: lease.Finish, token: StoredAccessToken | None, asked_by: str
    ) -> GrantState | None:
        """Store the access token (only over a lower attempt) and run Finish, in one durable transaction.

        A commit whose answer was lost is read back before this returns. `token.remaining_ms` is what is left now, None
        for `token` stores none; `asked_by` is who brought a set to life that was not alive.
        """

    async def take_access(self, key: AccessTokenKey, owner: str, asked_by: str) -> int | None:
        """Lease one client_credentials cache key; return the attempt, or None while another owner's lease lives.

        Raises:
            ScopeSetsError: with this key too many of the grant, or of `asked_by`, would be alive (`core/scope_sets`).
        """

    async def put_access(self, token: StoredAccessToken) -> bool:
        """Store a client_credentials token over a lower-or-equal attempt and free the lease; False when fenced off."""

    async def release_access(self, key: AccessTokenKey, attempt: int) -> None:
        """Free the lease without a token."""

    async def live_scope_sets(self, grant_id: str, now_key: AccessTokenKey) -> Sequence[str]:
        """Return who first asked for each other key of the grant and epoch with an unexpired token or a live lease."""

    async def live_access_tokens(self, grant_id: str) -> Sequence[StoredAccessToken]:
        """Return every token of the grant that still lives, of whatever epoch."""

    async def note_used(self, keys: Sequence[AccessTokenKey]) -> None:
        """Note that tokens of these keys were handed out lately."""

    async def due_tokens(self, limit: int, again_ms: int) -> Sequence[DueToken]:
        """Return tokens whose time to be renewed has come and that were handed out within their life.

        Those that end soonest come first. Each is given to one replica: it is due again only after `again_ms`, unless
        it was renewed.
        """

    async def ended_since(self, version: int, limit: int) -> Sequence[EndedToken] | None:
        """Return tokens ended after `version`, in its order; None when too long ago, or too many, to tell."""


class ReplicaStore(Protocol):
    """What the processes of one broker tell each other of themselves."""

    async def beat(
        self,
        owner: str,
        volume: str,
        leases: Sequence[tuple[str, int]],
        access_leases: Sequence[tuple[AccessTokenKey, int]],
    ) -> None:
        """Note that `owner`, whose journal lies on `volume`, lives, and extend the leases it has, in one transaction.

        A lease is a grant's id or a cache key with the attempt; one that is no longer ours stays as it is.
        """

    async def drained(self, owner: str) -> None:
        """Note that the journal on the owner's volume was found empty, by itself, after it first beat."""
