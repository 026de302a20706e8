"""Logins under way, and the subject a provider knows a token's person as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.core.audit import AuditEvent
from broker.core.authorization import Authorization
from broker.core.models import Provider
from broker.core.secret import Secret
from broker.ports.journal import ReceivedLogin


@dataclass(frozen=True, slots=True)
class LoginReading:
    """A login, and the store's clock when it was read, in milliseconds."""

    login: Authorization
    now: int


class AuthorizationStore(Protocol):
    """Logins under way, for every replica."""

    async def add_login(self, login: Authorization, life_ms: int, most_open: int, event: AuditEvent) -> int | None:
        """Store a new login that is open for `life_ms`, with its event; return when it ends, by the store's clock.

        None, and nothing stored, when its starter has `most_open` open ones already, also when two come at once.
        """

    async def find_login(self, login_id: str) -> LoginReading | None:
        """Return the login of this id, or None."""

    async def find_by_state(self, state: str) -> LoginReading | None:
        """Return the login whose state's digest this is, or None."""

    async def find_by_code(self, code: str) -> LoginReading | None:
        """Return the login whose one-time code's digest this is, or None."""

    async def move_login(self, after: Authorization, event: AuditEvent | None = None) -> bool:
        """Replace the row of the version before by `after`, with an event; durable when this returns True.

        False, and nothing written, when the row is of another version: somebody else made a step.
        """

    async def receive_login(self, received: ReceivedLogin) -> bool:
        """Make the step `receive` of `core/authorization.py`, whatever the version, in one durable transaction.

        Doing it again changes nothing. False when there is no such login: it was forgotten, and with it the token.
        """

    async def unsettled_logins(self, limit: int) -> Sequence[LoginReading]:
        """Return at most `limit` open logins whose time is over, and apps' whose one-time code's time is."""

    async def forget_logins(self, older_ms: int) -> None:
        """Remove logins that were over `older_ms` ago."""


class Subjects(Protocol):
    """Who logged in, by the provider's own word."""

    async def find(self, provider: Provider, access_token: Secret) -> str | None:
        """Return the subject that the provider's `subject_url` tells, or None where there is none or it does not tell.

        Raises:
            ProviderUnavailableError: it cannot be asked now.
        """
