"""The store, the keys, the audit: what everything else stands on."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from broker.adapters.audit.log import TableAuditLog
from broker.adapters.audit.postgres import PostgresAuditTable, postgres_audit_engine
from broker.adapters.audit.sink import TableAuditSink
from broker.adapters.audit.sqlite import SqliteAuditTable, sqlite_audit_engine
from broker.adapters.clock import SystemClock
from broker.adapters.http_exchange import HttpExchange
from broker.adapters.keys.kek import open_kek, open_or_make_local_kek
from broker.adapters.keys.keyring import Keyring, open_keyring
from broker.adapters.memory.buckets import MemoryBuckets
from broker.adapters.metrics import Metrics
from broker.adapters.sql.database import SqlStore, open_database
from broker.core.grant_state import RedeemTimes
from broker.flows.catalog_view import CatalogView
from broker.settings import Settings

TIMES: Final = RedeemTimes(
    lease=15_000,
    extend_every=5_000,
    refresh_reply=60_000,
    client_credentials_reply=20_000,
    replay_margin=2_000,
    write_within=1_000,
)
"""The durations of the redeem, in milliseconds; no setting changes them."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """What everything else stands on: the store, the keys, the audit, what is known of the configuration."""

    store: SqlStore
    keyring: Keyring
    audit: TableAuditSink
    audit_log: TableAuditLog
    view: CatalogView
    metrics: Metrics
    clock: SystemClock
    buckets: MemoryBuckets
    exchange: HttpExchange
    owner: str


@asynccontextmanager
async def foundation(settings: Settings) -> AsyncIterator[Foundation]:
    """Open store, keys and audit in this order and close them in the other, the store last.

    Raises:
        StoreRefusedError, KeyringError, AuditTableError: a clear reason not to start.
        StoreUnavailableError: the database is away.
    """
    async with AsyncExitStack() as stack:
        database = await open_database(database_url(settings), settings.data_dir)
        stack.push_async_callback(database.aclose)
        keks = [
            await open_or_make_local_kek(uri, database)
            if settings.makes_own_keys and not settings.kek
            else open_kek(uri)
            for uri in settings.keks
        ]
        keyring = await open_keyring(database, keks)
        store = database.store(keyring, TIMES)
        engine, table = _audit_table(settings, store)
        audit = TableAuditSink(table)
        stack.push_async_callback(audit.aclose)
        view = CatalogView(store, store)
        await view.load()
        clock = SystemClock()
        yield Foundation(
            store=store,
            keyring=keyring,
            audit=audit,
            audit_log=TableAuditLog(engine),
            view=view,
            metrics=Metrics(store.grant_counts),
            clock=clock,
            buckets=MemoryBuckets(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000),
            exchange=HttpExchange(),
            owner=f"{os.uname().nodename[:32]}-{secrets.token_hex(4)}",
        )


def database_url(settings: Settings) -> str | None:
    """Return the URL of PostgreSQL, None for SQLite in the data folder."""
    return settings.database_url.reveal() if settings.is_postgres and settings.database_url is not None else None


def _audit_table(settings: Settings, store: SqlStore) -> tuple[Engine, SqliteAuditTable | PostgresAuditTable]:
    url = database_url(settings)
    if url is not None:
        engine = postgres_audit_engine(url)
        return engine, PostgresAuditTable(engine)
    engine = sqlite_audit_engine(settings.data_dir / "audit.db")
    return engine, SqliteAuditTable(engine, store.version)
