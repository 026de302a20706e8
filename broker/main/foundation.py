"""The store, the keys, the audit: what everything else stands on."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Engine

from broker.adapters.audit.log import TableAuditLog
from broker.adapters.audit.postgres import PostgresAuditTable, postgres_audit_engine
from broker.adapters.audit.sink import TableAuditSink
from broker.adapters.audit.sqlite import SqliteAuditTable, sqlite_audit_engine
from broker.adapters.clock import SystemClock
from broker.adapters.data_folder import DataFolder
from broker.adapters.evidence_file import FileEvidence, NoEvidence, open_evidence
from broker.adapters.http_exchange import HttpExchange
from broker.adapters.journal import FILE_NAME as JOURNAL_FILE
from broker.adapters.journal import FileJournal, open_journal
from broker.adapters.keys.kek import open_kek, open_or_make_local_kek
from broker.adapters.keys.keyring import Keyring, open_keyring
from broker.adapters.memory.buckets import MemoryBuckets
from broker.adapters.metrics import Metrics
from broker.adapters.provider_http import ProviderHttp
from broker.adapters.sql.database import DEFAULT_POOL, SqlStore, open_database
from broker.adapters.sql.database import FILE_NAME as DATABASE_FILE
from broker.adapters.sql.engine_postgres import limit_connections
from broker.adapters.sql.lost_file import refuse_lost_file
from broker.core.grant_state import RedeemTimes
from broker.flows.catalog_view import CatalogView
from broker.flows.heart import Heart
from broker.flows.limits import Limiter
from broker.ports import Buckets
from broker.settings import Settings

AUDIT_FILE: Final = "audit.db"

TIMES: Final = RedeemTimes(
    lease=15_000,
    extend_every=5_000,
    refresh_reply=60_000,
    client_credentials_reply=20_000,
    replay_margin=2_000,
    write_within=1_000,
    journal_after=250,
    silent=30_000,
    in_flight=120_000,
    journal_lost=600_000,
    store_up=10_000,
)
"""The durations of the redeem, in milliseconds; no setting changes them."""

T = TypeVar("T")


def _as_it_is(part: T) -> T:
    return part


@dataclass(frozen=True, slots=True)
class Seams:
    """Where tests put their own between the parts: quicker times, few connections, wrappers that end the process.

    Nothing in the product sets them: neither a setting nor a variable.
    """

    times: RedeemTimes = TIMES
    pool_size: int = DEFAULT_POOL
    around_store: Callable[[SqlStore], SqlStore] = _as_it_is
    around_endpoint: Callable[[ProviderHttp], ProviderHttp] = _as_it_is
    around_journal: Callable[[FileJournal], FileJournal] = _as_it_is


SEAMS: Final = Seams()
"""The product's own."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """What everything else stands on: the store, the keys, the audit, what is known of the configuration.

    Attributes:
        own_buckets: of this process alone, for what keeps it from too much work.
        buckets: of every limit; on PostgreSQL those of all replicas.
    """

    times: RedeemTimes
    store: SqlStore
    journal: FileJournal
    evidence: FileEvidence | NoEvidence
    heart: Heart
    endpoint: ProviderHttp
    keyring: Keyring
    audit: TableAuditSink
    audit_log: TableAuditLog
    view: CatalogView
    metrics: Metrics
    clock: SystemClock
    own_buckets: MemoryBuckets
    buckets: Buckets
    limiter: Limiter
    exchange: HttpExchange
    owner: str


@asynccontextmanager
async def foundation(settings: Settings, seams: Seams) -> AsyncIterator[Foundation]:
    """Open folder, journal, store, keys and audit in this order and close them in the other.

    Raises:
        DataFolderRefusedError, StoreRefusedError, KeyringError, AuditTableError: a clear reason not to start.
        StoreUnavailableError: the database is away.
    """
    async with AsyncExitStack() as stack:
        folder = DataFolder(settings.data_dir)
        stack.callback(folder.close)
        journal_file = open_journal(folder)
        stack.callback(journal_file.close)
        evidence = _evidence(settings)
        if isinstance(evidence, FileEvidence):
            stack.callback(evidence.close)
        if not settings.is_postgres:
            refuse_lost_file(
                settings.data_dir / DATABASE_FILE, signs_of_life(settings, journal_is_empty=not journal_file.held)
            )
        database = await open_database(database_url(settings), folder, pool_size=seams.pool_size)
        stack.push_async_callback(database.aclose)
        keks = [
            await open_or_make_local_kek(uri, database)
            if settings.makes_own_keys and not settings.kek
            else open_kek(uri)
            for uri in settings.keks
        ]
        keyring = await open_keyring(database, keks)
        store = seams.around_store(database.store(keyring, seams.times))
        journal = seams.around_journal(journal_file)
        engine, table = _audit_table(settings, store)
        audit = TableAuditSink(table)
        stack.push_async_callback(audit.aclose)
        view = CatalogView(store, store)
        await view.load()
        clock = SystemClock()
        exchange = HttpExchange()
        metrics = Metrics(store.grant_counts, lambda: view.catalog.providers.values())  # noqa: PLW0108 - it moves
        own_buckets = MemoryBuckets(_microseconds)
        buckets: Buckets = own_buckets
        if settings.is_postgres:
            buckets = await stack.enter_async_context(_shared_buckets(settings, seams, metrics))
        owner = f"{os.uname().nodename[:32]}-{secrets.token_hex(4)}"
        yield Foundation(
            times=seams.times,
            store=store,
            journal=journal,
            evidence=evidence,
            heart=Heart(
                replicas=store,
                clock=clock,
                owner=owner,
                volume=journal.volume,
                every=seams.times.extend_every / 1000,
            ),
            endpoint=seams.around_endpoint(ProviderHttp(exchange)),
            keyring=keyring,
            audit=audit,
            audit_log=TableAuditLog(engine),
            view=view,
            metrics=metrics,
            clock=clock,
            own_buckets=own_buckets,
            buckets=buckets,
            limiter=Limiter(lambda: view.catalog.limits, view.catch_up, buckets),
            exchange=exchange,
            owner=owner,
        )


def _evidence(settings: Settings) -> FileEvidence | NoEvidence:
    """Open the other place: where it is named, else the data folder where the database does not lie in that."""
    if settings.evidence_dir is not None:
        return open_evidence(settings.evidence_dir)
    return open_evidence(settings.data_dir) if settings.is_postgres else NoEvidence()


def database_url(settings: Settings) -> str | None:
    """Return the URL of PostgreSQL, None for SQLite in the data folder."""
    return settings.database_url.reveal() if settings.is_postgres and settings.database_url is not None else None


def signs_of_life(settings: Settings, *, journal_is_empty: bool) -> Iterator[Path]:
    """Yield the files that hold something only once there was a database.

    The audit log is opened after the database, and an entry of the journal is a token that was received. Keys are no
    sign: operators may put them there before, and a first start that ended half way leaves them, with an empty journal.
    """
    yield settings.data_dir / AUDIT_FILE
    if not journal_is_empty:
        yield settings.data_dir / JOURNAL_FILE


@asynccontextmanager
async def _shared_buckets(settings: Settings, seams: Seams, metrics: Metrics) -> AsyncIterator[Buckets]:
    """Open the buckets that all replicas share."""
    from broker.adapters.sql.buckets import open_shared_buckets  # noqa: PLC0415 - its driver is not needed on SQLite

    async with open_shared_buckets(
        database_url(settings) or "",
        connections=limit_connections(seams.pool_size),
        replicas=settings.max_replicas,
        telemetry=metrics,
        now=_microseconds,
    ) as buckets:
        yield buckets


def _microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def _audit_table(settings: Settings, store: SqlStore) -> tuple[Engine, SqliteAuditTable | PostgresAuditTable]:
    url = database_url(settings)
    if url is not None:
        engine = postgres_audit_engine(url)
        return engine, PostgresAuditTable(engine)
    engine = sqlite_audit_engine(settings.data_dir / AUDIT_FILE)
    return engine, SqliteAuditTable(engine, store.version)
