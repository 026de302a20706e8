"""The stores the contract suite runs over, each with the few things a test needs beside the ports."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from time import time_ns
from typing import Any, Protocol

import pytest
from sqlalchemy import RowMapping, bindparam, delete, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.data_folder import DataFolder
from broker.adapters.memory import MemoryStore
from broker.adapters.sql import SqlDatabase, SqlStore, open_database
from broker.adapters.sql.clock import boot_ms
from broker.adapters.sql.rows import state_values
from broker.adapters.sql.tables import attempts, grants, refresh_tokens
from broker.adapters.sql.tables import replicas as replica_rows
from broker.core.audit import Action, AuditEvent
from broker.core.errors import StoreUnavailableError
from broker.core.grant_state import GrantState, KeptToken, OpenSend, to_revoke
from broker.core.models import Grant, GrantType, Kind, Origin
from broker.core.sealing import Sealed
from broker.core.settled import Replica
from broker.ports import (
    AccessTokenStore,
    AttemptRecord,
    AuthorizationStore,
    CatalogStore,
    DataKey,
    DataKeyStore,
    GrantStore,
    KeyPurpose,
    KeyState,
    KeyStore,
    ObjectChange,
    Outbox,
    ReplicaStore,
    RollbackStore,
    SecretStore,
    UnknownMacKeyError,
)
from tests.support.times import TIMES

GRANT_TIMES = (
    "lease_until",
    "not_before",
    "first_sent_at",
    "last_sent_at",
    "replay_until",
    "settled_at",
)
TOKEN_TIMES = ("received_at", "first_sent_at", "refused_at", "revoked_at")
LONG_AGO = -500_000
A_STEP_TAKES = 8_000
"""Most milliseconds between the clocks' readings for one step; the durations of the tests differ by more."""
SEALED = Sealed("aead-1", b"sealed")
EVENT = AuditEvent(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), Action.CONFIG_PUT, actor="key:ops")
DATA_KEYS = (
    DataKey("aead-1", KeyPurpose.AEAD, KeyState.PRIMARY, {"file:kek": b"wrapped"}),
    DataKey("mac-1", KeyPurpose.MAC, KeyState.PRIMARY, {"file:kek": b"\x00\xff"}),
    DataKey("mac-2", KeyPurpose.MAC, KeyState.ENABLED, {"file:kek": b"\x00\xff"}),
)


class TestMacKeys:
    """MAC keys in plain sight: the id is the key.

    Attributes:
        primary: the key rows are MACed under.
        loaded, lost: ids in memory, and ids that cannot be loaded.
    """

    __test__ = False

    def __init__(self, primary: str = "mac-1") -> None:
        self.primary = primary
        self.loaded = {primary}
        self.lost: set[str] = set()

    def mac(self, data: bytes) -> tuple[str, bytes]:
        return self.primary, _tag(self.primary, data)

    def verify(self, key_id: str, data: bytes, tag: bytes) -> bool:
        if key_id not in self.loaded:
            raise UnknownMacKeyError(key_id)
        return hmac.compare_digest(_tag(key_id, data), tag)

    async def load(self, key_id: str) -> None:
        if key_id in self.lost:
            raise StoreUnavailableError("no such key", cause="key")
        self.loaded.add(key_id)


def _tag(key_id: str, data: bytes) -> bytes:
    return hmac.new(key_id.encode(), data, hashlib.sha256).digest()


class Store(
    CatalogStore,
    GrantStore,
    AccessTokenStore,
    ReplicaStore,
    RollbackStore,
    SecretStore,
    KeyStore,
    Outbox,
    AuthorizationStore,
    Protocol,
):
    """All ports of a store but the data keys."""


class Backend(Protocol):
    """A store under test."""

    @property
    def store(self) -> Store:
        """All ports but one."""

    @property
    def data_keys(self) -> DataKeyStore:
        """The remaining port; holds DATA_KEYS already."""

    async def advance(self, milliseconds: int) -> None:
        """Let time pass, as far as the store can tell."""

    async def hold(self, grant_id: str, hold: str) -> None:
        """Set a grant's hold, whatever it was."""

    async def put_states(self, states: Mapping[str, GrantState]) -> None:
        """Put grants into states, their times given from now."""

    async def put_replicas(self, replicas: Sequence[Replica]) -> None:
        """Make these the processes that are known, their times given from now."""

    async def now(self) -> int:
        """Return the store's clock."""

    async def aclose(self) -> None:
        """Close the store."""


class MemoryBackend:
    """The memory adapter with a clock that can be pushed."""

    def __init__(self) -> None:
        self._ahead = 0
        self.memory = MemoryStore(TIMES, lambda: boot_ms() + self._ahead)
        self.store: Store = self.memory
        self.data_keys: DataKeyStore = self.memory

    async def advance(self, milliseconds: int) -> None:
        self._ahead += milliseconds

    async def hold(self, grant_id: str, hold: str) -> None:
        grant = self.memory._grants[grant_id]
        self.memory._grants[grant_id] = replace(grant, state=replace(grant.state, hold=type(grant.state.hold)(hold)))

    async def put_states(self, states: Mapping[str, GrantState]) -> None:
        for grant_id, state in states.items():
            self.memory._grants[grant_id] = replace(self.memory._grants[grant_id], state=moved(state, await self.now()))

    async def put_replicas(self, replicas: Sequence[Replica]) -> None:
        now = await self.now()
        self.memory._replicas = {replica.owner: seen(replica, now) for replica in replicas}

    async def now(self) -> int:
        return self.memory._now()

    async def aclose(self) -> None:
        await self.memory.aclose()


@dataclass
class SqlBackend:
    """The SQL adapter; time passes by moving every stored time into the past."""

    database: SqlDatabase
    sql: SqlStore
    on_sqlite: bool
    folder: DataFolder

    @property
    def store(self) -> Store:
        return self.sql

    @property
    def data_keys(self) -> DataKeyStore:
        return self.database

    async def advance(self, milliseconds: int) -> None:
        columns = {
            "grants": GRANT_TIMES,
            "refresh_tokens": TOKEN_TIMES,
            "access_tokens": ("lease_until", "expires_at", "renew_at", "used_at"),
            "attempts": ("sent_at",),
            "replicas": ("beat_at", "drained_at"),
            "outbox": ("delivered_at",),
            "authorizations": ("expires_at", "moved_at"),
        }

        moves = []
        for table, names in columns.items():
            moved = ", ".join(f"{name} = {name} - {milliseconds}" for name in names)
            moves.append(f"UPDATE {table} SET {moved}")  # noqa: S608 - words of ours
        await self.execute(*moves)

    async def hold(self, grant_id: str, hold: str) -> None:
        await self.execute("UPDATE grants SET hold = :hold WHERE id = :id", hold=hold, id=grant_id)

    async def put_states(self, states: Mapping[str, GrantState]) -> None:
        now = await self.now()
        rows = {grant_id: moved(state, now) for grant_id, state in states.items()}
        by_id = update(grants).where(grants.c.id == bindparam("of"))
        kept = {"key_id": SEALED.key_id, "ciphertext": SEALED.ciphertext}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(by_id, [{"of": id_, **state_values(state)} for id_, state in rows.items()])
            tokens = [
                {"grant_id": id_, **asdict(token), **kept, "late": token.fingerprint in late}
                for id_, state in rows.items()
                for late in [_late(state)]
                for token in state.tokens
            ]
            await connection.execute(insert(refresh_tokens), tokens)
            opened = [(id_, state.consent, send) for id_, state in rows.items() for send in state.open_sends]
            if opened:
                await connection.execute(insert(attempts), [_line(*one) for one in opened])

        await self.database._lanes.write(work, seconds=30)

    async def put_replicas(self, replicas: Sequence[Replica]) -> None:
        now = await self.now()

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(replica_rows))
            await connection.execute(insert(replica_rows), [asdict(seen(replica, now)) for replica in replicas])

        await self.database._lanes.write(work)

    async def now(self) -> int:
        return boot_ms() if self.on_sqlite else time_ns() // 1_000_000  # the server is on this machine

    async def aclose(self) -> None:
        await self.database.aclose()
        self.folder.close()

    async def execute(self, *statements: str, **values: object) -> Sequence[RowMapping]:
        """Write to the database past the store, as somebody with the database's password can; return the last rows."""

        async def work(connection: AsyncConnection) -> Sequence[RowMapping]:
            rows: Sequence[RowMapping] = []
            for statement in statements:
                result = await connection.execute(text(statement), values)
                rows = result.mappings().all() if result.returns_rows else []
            return rows

        return await self.database._lanes.write(work)

    async def run_script(self, statements: str) -> None:
        """Run statements in one go and commit them."""

        async def work(connection: AsyncConnection) -> None:
            if self.on_sqlite:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.executescript(f"BEGIN; {statements}; COMMIT")  # it ends the transaction there is
            else:
                await connection.exec_driver_sql(statements)

        await self.database._lanes.write(work)


OpenStore = Callable[..., Awaitable[SqlBackend]]
"""Opens a store on a URL, in a folder of the test's by that name; it is closed when the test ends."""


async def open_sql(url: str | None, folder: Path, **options: Any) -> SqlBackend:  # noqa: ANN401 - passed on
    """Open a store on SQLite in `folder`, or on the PostgreSQL of `url`."""
    data_folder = DataFolder(folder)
    try:
        database = await open_database(url, data_folder, **options)
    except BaseException:
        data_folder.close()
        raise
    return SqlBackend(database, database.store(TestMacKeys(), TIMES), on_sqlite=url is None, folder=data_folder)


def new_grant(name: str, grant_id: str | None = None, **attributes: Any) -> Grant:  # noqa: ANN401 - passed on
    """Return a refresh token grant's configuration."""
    facts = {"origin": Origin.FILE, "client": "desk", "type": GrantType.REFRESH_TOKEN, "scopes": frozenset({"read"})}
    return Grant(id=grant_id or f"id-{name}", name=name, **{**facts, **attributes})


async def put_grant(store: Store, name: str, **attributes: Any) -> str:  # noqa: ANN401 - passed on
    """Store a grant; return its id."""
    grant = new_grant(name, **attributes)
    await store.write_objects([ObjectChange(Kind.GRANT, name, grant)], revision=None, event=EVENT)
    return grant.id


def moved(state: GrantState, now: int) -> GrantState:
    """Return a state whose times, given from zero, are from `now`."""

    def at(offset: int | None) -> int | None:
        return None if offset is None else now + offset

    def later(thing: GrantState | KeptToken | OpenSend, names: Sequence[str]) -> Any:  # noqa: ANN401 - the same kind
        times: dict[str, Any] = {name: at(getattr(thing, name)) for name in names}
        return replace(thing, **times)

    tokens = tuple(later(token, TOKEN_TIMES) for token in state.tokens)
    open_sends = tuple(later(send, ("sent_at",)) for send in state.open_sends)
    moved_state: GrantState = later(replace(state, tokens=tokens, open_sends=open_sends), GRANT_TIMES)
    return moved_state


def record_of(grant_id: str, attempt: int, owner: str = "me", outcome: str = "") -> AttemptRecord:
    """Return a line of a grant's history."""
    return AttemptRecord(grant_id, attempt, owner, 1, EVENT.time, outcome)


def _late(state: GrantState) -> frozenset[str]:
    """Return the tokens of which the store noted, when they were kept, that the provider has to be told."""
    return frozenset(token.fingerprint for token in to_revoke(state))


def _line(grant_id: str, consent: int, send: OpenSend) -> dict[str, object]:
    return {
        "grant_id": grant_id,
        "attempt": send.attempt,
        "owner": send.owner,
        "secret_version": 1,
        "outcome": "",
        "cause": "",
        "recorded_at": 0,
        "consent": consent,
        "sent_at": send.sent_at,
    }


def seen(replica: Replica, now: int) -> Replica:
    """Return a process whose times, given from zero, are from `now`."""
    drained_at = None if replica.drained_at is None else now + replica.drained_at
    return replace(replica, beat_at=now + replica.beat_at, drained_at=drained_at)


def relative(state: GrantState, now: int) -> dict[str, object]:
    """Return a state with its times as milliseconds from now, the long past all alike, and tokens by fingerprint."""
    return _picture(state, lambda at: None if at is None else max(LONG_AGO, at - now))


def nearly(state: GrantState, now: int) -> dict[str, object]:
    """Return what `relative` gives, but equal to another whose times differ by what a step takes."""
    return _picture(
        state, lambda at: None if at is None else pytest.approx(max(LONG_AGO, at - now), abs=A_STEP_TAKES, rel=0)
    )


def _picture(state: GrantState, time: Callable[[int | None], object]) -> dict[str, object]:
    whole = {field.name: getattr(state, field.name) for field in fields(state)}
    whole |= {name: time(whole[name]) for name in GRANT_TIMES}
    whole["tokens"] = {
        token.fingerprint: (
            token.consent,
            token.attempt,
            token.generation,
            *(time(getattr(token, name)) for name in TOKEN_TIMES),
        )
        for token in state.tokens
    }
    whole["open_sends"] = {send.attempt: (send.owner, time(send.sent_at)) for send in state.open_sends}
    return whole
