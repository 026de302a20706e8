"""The stores the contract suite runs over, each with the few things a test needs beside the ports."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import RowMapping, bindparam, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.memory import MemoryStore
from broker.adapters.sql import SqlDatabase, SqlStore, open_database
from broker.adapters.sql.clock import boot_ms
from broker.adapters.sql.rows import state_values
from broker.adapters.sql.tables import grants, refresh_tokens
from broker.core.audit import Action, AuditEvent
from broker.core.errors import StoreUnavailableError
from broker.core.grant_state import GrantState, RedeemTimes
from broker.core.models import Grant, GrantType, Kind, Origin
from broker.core.sealing import Sealed
from broker.ports import (
    CatalogStore,
    DataKey,
    DataKeyStore,
    GrantStore,
    KeyPurpose,
    KeyState,
    KeyStore,
    ObjectChange,
    Outbox,
    SecretStore,
    UnknownMacKeyError,
)

TIMES = RedeemTimes(
    lease=15_000,
    extend_every=5_000,
    refresh_reply=60_000,
    client_credentials_reply=20_000,
    replay_margin=2_000,
    write_within=1_000,
)
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


class Store(CatalogStore, GrantStore, SecretStore, KeyStore, Outbox, Protocol):
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
        """Set a grant's hold, which no step of the redeem does."""

    async def put_states(self, states: Mapping[str, GrantState]) -> None:
        """Put grants into states, their times given from now."""

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

    @property
    def store(self) -> Store:
        return self.sql

    @property
    def data_keys(self) -> DataKeyStore:
        return self.database

    async def advance(self, milliseconds: int) -> None:
        columns = {
            "grants": ("lease_until", "not_before", "first_sent_at", "replay_until"),
            "refresh_tokens": ("received_at", "first_sent_at", "refused_at"),
            "access_tokens": ("lease_until", "expires_at"),
            "outbox": ("delivered_at",),
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
            tokens = [(id_, token) for id_, state in rows.items() for token in state.tokens]
            await connection.execute(
                insert(refresh_tokens), [{"grant_id": id_, **asdict(token), **kept} for id_, token in tokens]
            )

        await self.database._lanes.write(work, seconds=30)

    async def now(self) -> int:
        clock = "boot_ms()" if self.on_sqlite else "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        rows = await self.execute(f"SELECT {clock} AS now")
        return int(rows[0]["now"])

    async def aclose(self) -> None:
        await self.database.aclose()

    async def execute(self, *statements: str, **values: object) -> Sequence[RowMapping]:
        """Write to the database past the store, as somebody with the database's password can; return the last rows."""

        async def work(connection: AsyncConnection) -> Sequence[RowMapping]:
            rows: Sequence[RowMapping] = []
            for statement in statements:
                result = await connection.execute(text(statement), values)
                rows = result.mappings().all() if result.returns_rows else []
            return rows

        return await self.database._lanes.write(work)


async def open_sql(url: str | None, folder: Path, **options: Any) -> SqlBackend:  # noqa: ANN401 - passed on
    """Open a store on SQLite in `folder`, or on the PostgreSQL of `url`."""
    database = await open_database(url, folder, **options)
    return SqlBackend(database, database.store(TestMacKeys(), TIMES), on_sqlite=url is None)


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

    tokens = tuple(
        replace(
            token,
            received_at=now + token.received_at,
            first_sent_at=at(token.first_sent_at),
            refused_at=at(token.refused_at),
        )
        for token in state.tokens
    )
    return replace(
        state,
        lease_until=now + state.lease_until,
        not_before=now + state.not_before,
        first_sent_at=at(state.first_sent_at),
        replay_until=at(state.replay_until),
        tokens=tokens,
    )


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
    for name in ("lease_until", "not_before", "first_sent_at", "replay_until"):
        whole[name] = time(whole[name])
    whole["tokens"] = {
        token.fingerprint: (
            token.consent,
            token.attempt,
            *(time(at) for at in (token.received_at, token.first_sent_at, token.refused_at)),
        )
        for token in state.tokens
    }
    return whole
