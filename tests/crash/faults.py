"""Parts of a broker that end their own process at a named point, as a power cut would.

A point is `STEP, before`, `STEP, not committed` (the statements ran, the commit did not) or `STEP, after`, where STEP
is an event of `core/lease.py`, or one of the few named below. Which point it is stands in a file that the test writes,
and is read at each point: so the successor of one death can be the next to die.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.journal import FileJournal
from broker.adapters.provider_http import ProviderHttp
from broker.adapters.sql.database import SqlStore
from broker.adapters.sql.lanes import Lanes, Work
from broker.core import lease
from broker.core.audit import AuditEvent
from broker.core.grant_state import GrantState
from broker.core.models import Provider
from broker.core.oauth.rfc6749 import HttpReply, HttpRequest
from broker.core.sealing import Sealed
from broker.ports import (
    AttemptRecord,
    ClientSecretVersion,
    Received,
    ReceivedToken,
    StoredAccessToken,
    StoredRefreshToken,
)

T = TypeVar("T")

STORE_AWAY: Final = "store away; "
"""Begins the points before which the store does not answer when it is given a received token."""
STORE_LATE: Final = "store late; "
"""Begins the points before which it answers once the token is in the journal."""

_step: ContextVar[str] = ContextVar("step", default="")


class Plan:
    """Where the process is to end, and how many have to come there before it does."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._arrived = 0
        self.journalled: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def read(self) -> tuple[str, int]:
        """Return the point, empty when there is none, and the number of those it waits for."""
        try:
            number, _, point = self._file.read_text().partition(" ")
        except FileNotFoundError:
            return "", 0
        return point, int(number or 0)

    def here(self, point: str) -> None:
        """End the process if this is the point."""
        if self.read()[0] == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def reached(self, point: str) -> None:
        """Wait here for all who are to come if this is the point, then end the process."""
        wanted, number = self.read()
        if wanted == point:
            self._arrived += 1
            if self._arrived >= number:
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.Event().wait()


def write_plan(file: Path, point: str, arrivals: int) -> None:
    """Tell a process, running or yet to be started, where to end."""
    unfinished = file.with_suffix(".new")
    unfinished.write_text(f"{arrivals} {point}")
    unfinished.rename(file)


class DyingLanes(Lanes):
    """The store's transactions, which may not reach their commit."""

    def __init__(self, lanes: Lanes, plan: Plan) -> None:
        self.__dict__ = lanes.__dict__  # the same lanes
        self._plan = plan

    async def write(self, work: Work[T], **more: Any) -> T:  # noqa: ANN401 - passed on
        step = _step.get()

        async def dying(connection: AsyncConnection) -> T:
            result = await work(connection)
            if result is not None:  # otherwise the step did not happen
                self._plan.here(f"{step}, not committed")
            return result

        return await super().write(dying, **more)


class DyingStore(SqlStore):
    """The store."""

    def __init__(self, store: SqlStore, plan: Plan) -> None:
        self.__dict__ = store.__dict__
        self.lanes = DyingLanes(store.lanes, plan)
        self._plan = plan

    async def _at(self, step: str, write: Callable[[], Awaitable[T]]) -> T:
        await self._plan.reached(f"{step}, before")
        token = _step.set(step)
        try:
            result = await write()
        finally:
            _step.reset(token)
        if result is not None:
            await self._plan.reached(f"{step}, after")
        return result

    async def apply(
        self, grant_id: str, event: lease.Event, *, record: AuditEvent | None = None, announce: bool = False
    ) -> GrantState | None:
        step = super().apply
        name = "Land" if isinstance(event, lease.NotRotated) else type(event).__name__  # it takes the place of that
        return await self._at(name, lambda: step(grant_id, event, record=record, announce=announce))

    async def licence(self, sent: lease.Sent, record: AttemptRecord) -> GrantState | None:
        step = super().licence
        return await self._at("Sent", lambda: step(sent, record))

    async def probe(self, grant_id: str, owner: str) -> GrantState | None:
        step = super().probe
        return await self._at("Probe", lambda: step(grant_id, owner))

    async def keep_and_land(
        self, grant_id: str, land: lease.Land, sealed: Sealed, received: AuditEvent, *, announce: bool = False
    ) -> GrantState:
        wanted = self._plan.read()[0]
        if wanted.startswith(STORE_AWAY):
            await asyncio.Event().wait()
        if wanted.startswith(STORE_LATE):
            await self._plan.journalled[land.fingerprint].wait()
        step = super().keep_and_land
        return await self._at("Land", lambda: step(grant_id, land, sealed, received, announce=announce))

    async def finish(
        self, grant_id: str, event: lease.Finish, token: StoredAccessToken | None, asked_by: str
    ) -> GrantState | None:
        step = super().finish
        return await self._at("Finish", lambda: step(grant_id, event, token, asked_by))

    async def hold(
        self, grant_id: str, event: lease.Freeze | lease.Unfreeze | lease.Revoke | lease.Settle, record: AuditEvent
    ) -> GrantState | None:
        step = super().hold
        return await self._at(type(event).__name__, lambda: step(grant_id, event, record))

    async def record_attempt(self, record: AttemptRecord) -> None:
        await self._plan.reached("note, before")
        await super().record_attempt(record)
        await self._plan.reached("note, after")

    async def current_refresh_token(self, grant_id: str) -> StoredRefreshToken | None:
        await self._plan.reached("budget, after")
        return await super().current_refresh_token(grant_id)

    async def current_secret(self, client: str) -> ClientSecretVersion | None:
        await self._plan.reached("secret, before")
        return await super().current_secret(client)


class DyingEndpoint(ProviderHttp):
    """The way to the provider."""

    def __init__(self, endpoint: ProviderHttp, plan: Plan) -> None:
        self.__dict__ = endpoint.__dict__
        self._plan = plan

    async def send(
        self,
        provider: Provider,
        request: HttpRequest,
        *,
        before_write: Callable[[], Awaitable[None]],
        reply_deadline: float,
    ) -> HttpReply:
        async def dying() -> None:
            await self._plan.reached("connected")
            await before_write()
            await self._plan.reached("licence in hand")

        await self._plan.reached("secret opened")
        reply = await super().send(provider, request, before_write=dying, reply_deadline=reply_deadline)
        await self._plan.reached("reply read")
        return reply


class DyingJournal(FileJournal):
    """The journal."""

    def __init__(self, journal: FileJournal, plan: Plan) -> None:
        self.__dict__ = journal.__dict__
        self._plan = plan

    async def write(self, place: int, received: Received) -> None:
        await self._plan.reached(f"{STORE_AWAY}journal, before")
        await super().write(place, received)
        if isinstance(received, ReceivedToken):
            self._plan.journalled[received.land.fingerprint].set()
        for point in ("journal", f"{STORE_AWAY}journal"):
            await self._plan.reached(f"{point}, after")

    async def clear(self, place: int) -> None:
        for point in ("clear", f"{STORE_LATE}clear"):
            await self._plan.reached(f"{point}, before")
        await super().clear(place)
        for point in ("clear", f"{STORE_LATE}clear"):
            await self._plan.reached(f"{point}, after")
