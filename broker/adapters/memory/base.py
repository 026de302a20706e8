"""The dictionaries all parts of the store in memory share."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.authorization import Authorization
from broker.core.evidence import Landmark
from broker.core.grant_state import GrantState, RedeemTimes
from broker.core.models import AccessTokenKey, ApiKey, Grant, Kind
from broker.core.settled import Replica
from broker.ports import AttemptRecord, ClientSecretVersion, DataKey, EndedToken, StoredAccessToken, StoredRefreshToken

CHANGES_KEPT: Final = 10_000
"""Versions whose changes are named."""


@dataclass(slots=True)
class AccessRow:
    """A cache key's lease and token; times in the store's milliseconds."""

    attempt: int = 0
    owner: str | None = None
    lease_until: int = 0
    token: StoredAccessToken | None = None
    expires_at: int = 0
    renew_at: int | None = None
    used_at: int = 0
    asked_by: str = ""


class Base:
    """What is stored; one event loop, nothing survives the process."""

    def __init__(self, times: RedeemTimes, clock: Callable[[], int] | None = None) -> None:
        """Make an empty store; `clock` returns milliseconds and never steps, CLOCK_BOOTTIME when left out."""
        self._times = times
        self._now = clock or _boot_ms
        self._version = 0
        self._revision = 0
        self._changes: deque[tuple[int, str, str]] = deque()
        self._objects: dict[tuple[Kind, str], object] = {}
        self._grants: dict[str, Grant] = {}
        self._sealed: dict[tuple[str, str], StoredRefreshToken] = {}
        self._access: dict[AccessTokenKey, AccessRow] = {}
        self._ended: list[EndedToken] = []
        self._attempts: dict[str, list[AttemptRecord]] = {}
        self._opened: set[tuple[str, int]] = set()
        self._replicas: dict[str, Replica] = {}
        self._suspects: dict[str, tuple[Landmark, datetime]] = {}
        self._secrets: dict[str, ClientSecretVersion] = {}
        self._logins: dict[str, tuple[Authorization, int]] = {}
        self._keys: dict[str, ApiKey] = {}
        self._data_keys: tuple[DataKey, ...] = ()
        self._outbox: dict[str, AuditEvent] = {}

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""

    def _step(self, grant_id: str, event: lease.Event) -> GrantState | None:
        grant = self._grants.get(grant_id)
        if grant is None:
            return None
        after = lease.step(grant.state, event, self._now(), self._times)
        if after is not None:
            self._grants[grant_id] = replace(grant, state=after)
        return after

    def _put_event(self, event: AuditEvent) -> None:
        self._outbox[secrets.token_hex(16)] = event.bounded()

    def _changed(self, event: AuditEvent, touched: Iterable[tuple[str, str]]) -> int:
        self._put_event(event)
        return self._moved(touched)

    def _is_named(self, since: int) -> bool:
        return since >= self._version - CHANGES_KEPT

    def _moved(self, touched: Iterable[tuple[str, str]]) -> int:
        self._version += 1
        self._changes.extend((self._version, kind, id_) for kind, id_ in touched)
        while self._changes and self._changes[0][0] <= self._version - CHANGES_KEPT:
            self._changes.popleft()
        return self._version

    def _tell_ended(self, grant_id: str, version: int, before: int | None = None) -> None:
        now, name = self._now(), self._grants[grant_id].name
        ended = {
            row.token.fingerprint: EndedToken(version, name, row.token.fingerprint, row.token.granted)
            for key, row in self._access.items()
            if key.grant_id == grant_id and row.token is not None and row.expires_at > now
            if before is None or row.token.attempt < before
        }
        self._ended += [ended[fingerprint] for fingerprint in sorted(ended)]


def _boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
