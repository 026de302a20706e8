"""Access tokens: kept until shortly before their end, and asked for once however many threads need one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from aries_exchange.errors import AriesAPIError
from aries_exchange.retries import Repeat

EARLY_SECONDS: Final = 60.0
"""How long before its end a token is replaced; half its life, where that is shorter."""
PAUSE_SECONDS: Final = 5.0
"""How long a token that still lives is used after its replacement was refused, before another is asked for."""

NO_BEARER: Final = "bearer_token must be an access token: printable ASCII without spaces"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token; printing it does not reveal it.

    Attributes:
        value: the token itself.
        renew_at: when to replace it, by the monotonic clock; None: not before it is refused.
        expires_at: when it ends, by the same clock; None: not known.
        base_url: where it may be sent.
        fingerprint: how the broker names it; empty without a broker.
    """

    value: str = field(repr=False)
    renew_at: float | None
    expires_at: float | None
    base_url: str
    fingerprint: str = ""


def renew_after(lifetime: float) -> float:
    """Return after how many seconds a token of this lifetime, also in seconds, is replaced."""
    return lifetime - min(EARLY_SECONDS, lifetime / 2)


def is_bearer(text: str) -> bool:
    """Tell whether a text can stand in an Authorization header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


class TokenSource(Protocol):
    """Where access tokens for API calls come from; threads may share it.

    Attributes:
        repeat: when it may be asked again by itself.
    """

    repeat: Repeat

    def get(self, scope: str) -> AccessToken:
        """Return a token that has this scope of the wire.

        Raises:
            AriesAPIError: there is none.
        """
        ...

    def replace(self, scope: str, refused: AccessToken) -> AccessToken | None:
        """Return another token in place of one that the API refused with 401; None where that is the caller's to do.

        Raises:
            AriesAPIError: there is none.
        """
        ...


class Fetcher(Protocol):
    """Asks for access tokens.

    Attributes:
        repeat: when it may be asked again by itself.
    """

    repeat: Repeat

    def key(self, scope: str) -> str:
        """Return what tells tokens apart that cannot stand in for each other."""
        ...

    def fetch(self, scope: str, refused: AccessToken | None) -> AccessToken:
        """Ask for a new token with this scope; `refused` is one that the API did not take.

        Raises:
            AriesAPIError: there is none.
        """
        ...


@dataclass(eq=False, slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: AccessToken | None = None
    not_before: float = float("-inf")


class KeptTokens:
    """Tokens of one fetcher, each fetched by one thread while the others wait for it."""

    def __init__(
        self, fetcher: Fetcher, monotonic: Callable[[], float], *, renews: bool, first: AccessToken | None = None
    ) -> None:
        """Start with no token, or with one for every scope.

        Args:
            fetcher: whom to ask.
            monotonic: the clock tokens expire by.
            renews: whether a token that ends or is refused is replaced; if not, the caller is told of the 401.
            first: a token the caller brought along.
        """
        self.repeat = fetcher.repeat
        self._fetcher = fetcher
        self._monotonic = monotonic
        self._renews = renews
        self._first = first
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()

    def get(self, scope: str) -> AccessToken:
        """Return the token that is kept, or a new one."""
        slot = self._slot(scope)
        with slot.lock:
            if slot.token is None or (self._renews and self._is_due(slot, slot.token)):
                slot.token = self._renewed(slot, scope)
            return slot.token

    def replace(self, scope: str, refused: AccessToken) -> AccessToken | None:
        """Return a token other than the refused one; another thread may have fetched it already."""
        if not self._renews:
            return None
        slot = self._slot(scope)
        with slot.lock:
            if slot.token is None or slot.token.value == refused.value:
                slot.token = None
                slot.token = self._fetcher.fetch(scope, refused)
            return slot.token

    def _slot(self, scope: str) -> _Slot:
        key = self._fetcher.key(scope)
        with self._lock:
            return self._slots.setdefault(key, _Slot(token=self._first))

    def _is_due(self, slot: _Slot, token: AccessToken) -> bool:
        now = self._monotonic()
        return token.renew_at is not None and now >= token.renew_at and now >= slot.not_before

    def _renewed(self, slot: _Slot, scope: str) -> AccessToken:
        """Ask for a token; one that still lives serves on where there is none to be had."""
        try:
            return self._fetcher.fetch(scope, None)
        except AriesAPIError:
            now = self._monotonic()
            if slot.token is None or slot.token.expires_at is None or now >= slot.token.expires_at:
                raise
            slot.not_before = now + PAUSE_SECONDS
            return slot.token
