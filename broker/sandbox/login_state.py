"""What is remembered of logins: what each is for, how far it came, and how often somebody guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from broker.sandbox.config import ClientSeed, UserSeed

MOST_LOGINS = 1_000
LOCK_SECONDS = 900.0


class Step(StrEnum):
    """What a login waits for."""

    PASSWORD = "password"  # noqa: S105, the name of a step
    CODE = "code"
    CONSENT = "consent"


@dataclass(frozen=True)
class AuthorizationRequest:
    """An authorization request that was found in order (RFC 6749 §4.1.1, RFC 7636 §4.3)."""

    client: ClientSeed
    redirect_uri: str
    scopes: frozenset[str]
    state: str | None = field(repr=False)
    code_challenge: str | None
    code_challenge_method: str


@dataclass
class Login:
    """A login under way; `user` is who gave the right password, `browser` the only one that may go on (or any)."""

    request: AuthorizationRequest
    expires_at: float
    browser: str = field(default="", repr=False)
    step: Step = Step.PASSWORD
    user: UserSeed | None = None
    code_expires_at: float = 0.0


class Logins:
    """Logins by a name that cannot be guessed; past `MOST_LOGINS` the oldest is forgotten."""

    def __init__(self) -> None:
        self._logins: dict[str, Login] = {}

    def __iter__(self) -> Iterator[Login]:
        return iter(self._logins.values())

    def find(self, name: str) -> Login | None:
        """Return the login of this name."""
        return self._logins.get(name)

    def put(self, name: str, login: Login) -> None:
        """Remember a login."""
        self._logins[name] = login
        if len(self._logins) > MOST_LOGINS:
            del self._logins[next(iter(self._logins))]

    def remove(self, name: str) -> None:
        """Forget a login."""
        self._logins.pop(name, None)


class Tries:
    """Wrong passwords and codes, by whose they should have been; forgotten `LOCK_SECONDS` after the last."""

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[int, float]] = {}

    def count(self, whose: str, now: float) -> int:
        """Return how many were wrong, up to now."""
        self._forget_old(now)
        return self._wrong.get(whose, (0, now))[0]

    def add(self, whose: str, now: float) -> int:
        """Count one more wrong one, and return how many those are."""
        count = self.count(whose, now) + 1
        # Taken out first, so that those whose last is longest ago stand first.
        self._wrong.pop(whose, None)
        self._wrong[whose] = (count, now)
        return count

    def forget(self, whose: str) -> None:
        """Begin to count anew."""
        self._wrong.pop(whose, None)

    def _forget_old(self, now: float) -> None:
        while self._wrong:
            oldest = next(iter(self._wrong))
            if now < self._wrong[oldest][1] + LOCK_SECONDS:
                return
            del self._wrong[oldest]
