from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text

from broker.adapters.audit.log import TableAuditLog
from broker.adapters.audit.postgres import PostgresAuditTable, postgres_audit_engine
from broker.adapters.audit.sink import TableAuditSink
from broker.adapters.audit.sqlite import SqliteAuditTable
from broker.adapters.audit.table import AuditTable, AuditTableError, metadata
from broker.core.audit import from_json, to_json
from broker.core.errors import AuditUnavailableError
from broker.ports import PendingEvent
from tests.adapters.audit.support import Database, PostgresDatabase, SqliteDatabase, Wrapped, event
from tests.support.pgbouncer import PgBouncer
from tests.support.waiting import ENOUGH


@asynccontextmanager
async def sink_on(table: AuditTable) -> AsyncIterator[TableAuditSink]:
    """Run a sink for a test."""
    sink = TableAuditSink(table)
    try:
        yield sink
    finally:
        await sink.aclose()


async def test_an_event_is_in_the_database_before_its_reply(database: Database) -> None:
    """When record returns, another connection finds the event."""
    async with sink_on(database.table()) as sink:
        for number in range(3):
            await sink.record(event(number))
            assert to_json(event(number)) == database.rows()[-1][3]


async def test_many_waiting_events_share_commits_and_leave_no_hole(database: Database) -> None:
    """300 concurrent events take few commits; the chain counts from 1 without holes, each event once."""
    table = Wrapped(database.table())
    async with sink_on(table) as sink:
        for start in (0, 100, 200):
            await asyncio.gather(*(sink.record(event(number)) for number in range(start, start + 100)))
    rows = database.rows()
    assert [(sink.chain, seq) for seq in range(1, 301)] == [row[:2] for row in rows]
    assert {to_json(event(number)) for number in range(300)} == {row[3] for row in rows}
    assert len(table.blocks) <= 30


async def test_the_reply_has_the_version_of_its_commit(database: Database) -> None:
    """A reply has control.version, so that a change made before the commit is seen."""
    async with sink_on(database.table()) as sink:
        versions = [await sink.record(event())]
        database.version = 7
        versions.append(await sink.record(event()))
    assert [1, 7] == versions


async def test_a_blocked_database_fails_in_time_and_recovers_by_itself(database: Database) -> None:
    """While no commit ends, record fails within its second with cause timeout; afterwards it works, without holes."""
    async with sink_on(database.table()) as sink:
        await sink.record(event(0))
        with database.blocked():
            began = time.monotonic()
            results = await asyncio.gather(*(sink.record(event(n)) for n in (1, 2)), return_exceptions=True)
            took = time.monotonic() - began
        assert ["timeout"] * 2 == [error.cause for error in results if isinstance(error, AuditUnavailableError)]
        assert took < 10  # 0.9 s, and room for a busy machine; the database is blocked for longer
        await until_recorded(sink, 3)
    seqs = [row[1] for row in database.rows()]
    assert list(range(1, len(seqs) + 1)) == seqs
    assert to_json(event(0)) == database.rows()[0][3]
    assert to_json(event(3)) in {row[3] for row in database.rows()}


async def until_recorded(sink: TableAuditSink, number: int) -> None:
    """Record, as often as it takes."""
    async with asyncio.timeout(ENOUGH):
        while True:
            with contextlib.suppress(AuditUnavailableError):
                await sink.record(event(number))
                return


async def test_a_commit_whose_answer_was_lost_is_stored_once(database: Database) -> None:
    """A block that was written although the answer failed is tried again with the same numbers, to no effect."""

    def lose(count: int) -> None:
        if count <= 2:
            raise AuditTableError("gone")

    table = Wrapped(database.table(), lose)
    async with sink_on(table) as sink:
        with pytest.raises(AuditUnavailableError) as caught:
            await sink.record(event(0))
        await until_recorded(sink, 1)
    assert "gone" == caught.value.cause
    assert [(1, to_json(event(0))), (2, to_json(event(1)))] == [(row[1], row[3]) for row in database.rows()]
    assert table.blocks[0] == table.blocks[1] == table.blocks[2]


async def test_outbox_events_are_stored_once_by_however_many(database: Database) -> None:
    """Delivered again, and by another process at the same time, an outbox event has one row, and chains no holes."""
    pending = [PendingEvent(f"o{number}", event(number)) for number in range(20)]
    async with sink_on(database.table()) as one, sink_on(database.table()) as two:
        await asyncio.gather(
            one.deliver(pending[:15]), two.deliver(pending[5:]), one.record(event(90)), two.record(event(91))
        )
        await one.deliver([*pending, *pending])
        await one.deliver([])
        await one.record(event(92))
    rows = database.rows()
    assert sorted(item.id for item in pending) == sorted(row[2] for row in rows if row[2])
    assert 23 == len(rows)
    for sink in (one, two):
        seqs = [row[1] for row in rows if row[0] == sink.chain]
        assert list(range(1, len(seqs) + 1)) == seqs


async def test_the_log_reads_newest_first(database: Database) -> None:
    """The log gives the newest durable events, as they were recorded."""
    async with sink_on(database.table()) as sink:
        times = [event(number).time.replace(hour=number) for number in range(5)]
        for number in (3, 1, 4, 0, 2):
            await sink.record(replace(event(number), time=times[number]))
    newest = await TableAuditLog(database.engine).newest(3)
    assert [(f"r{number}", times[number]) for number in (4, 3, 2)] == [(e.request_id, e.time) for e in newest]


async def test_a_log_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A database that is away is cause gone."""
    engine = postgres_audit_engine(f"postgresql://nobody@/none?host={tmp_path}")
    with pytest.raises(AuditUnavailableError) as caught:
        await TableAuditLog(engine).newest(1)
    assert "gone" == caught.value.cause


async def test_no_database_is_cause_gone_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not there is named before the deadline, and shutting down does not hang."""
    monkeypatch.setattr("broker.adapters.audit.sink.CLOSE_SECONDS", 0.05)
    async with sink_on(PostgresAuditTable(postgres_audit_engine(f"postgresql://n@/n?host={tmp_path}"))) as sink:
        with pytest.raises(AuditUnavailableError) as caught:
            await sink.record(event())
    assert "gone" == caught.value.cause


async def test_a_connection_that_died_is_replaced_unnoticed(postgres_database: PostgresDatabase) -> None:
    """A server that closed our idle connection costs no reply: the block goes over a new one."""
    async with sink_on(postgres_database.table()) as sink:
        await sink.record(event(0))
        with psycopg.connect(postgres_database.where) as other:
            for pid in postgres_database.writer_pids():
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        await sink.record(event(1))
    assert [1, 2] == [row[1] for row in postgres_database.rows()]


async def test_it_works_behind_a_pooler(postgres_database: PostgresDatabase, pgbouncer: PgBouncer) -> None:
    """Behind PgBouncer in transaction mode, three sinks over one pool store every event in their own chains."""
    url = pgbouncer.url(postgres_database.name)
    async with AsyncExitStack() as stack:
        sinks = [
            await stack.enter_async_context(sink_on(PostgresAuditTable(postgres_audit_engine(url)))) for _ in range(3)
        ]
        for _ in range(5):
            await asyncio.gather(*(sink.record(event()) for sink in sinks for _ in range(10)))
        await asyncio.gather(*(sink.deliver([PendingEvent("o1", event())]) for sink in sinks))
    rows = postgres_database.rows()
    assert (151, {sink.chain for sink in sinks}) == (len(rows), {row[0] for row in rows})


async def test_a_commit_waits_for_the_disk_whatever_the_role_says(postgres_database: PostgresDatabase) -> None:
    """The block's transaction has synchronous_commit on although the database's default is off."""
    with psycopg.connect(postgres_database.where, autocommit=True) as other:
        name = other.info.dbname
        other.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        other.execute(
            "CREATE TABLE seen (mode text);"
            " CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;"
            " CREATE CONSTRAINT TRIGGER see AFTER INSERT ON audit_events"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()"
        )
        async with sink_on(postgres_database.table()) as sink:
            await sink.record(event())
        assert [("on",)] == other.execute("SELECT mode FROM seen").fetchall()
        with psycopg.connect(postgres_database.where) as later:
            assert ("off",) == later.execute("SHOW synchronous_commit").fetchone()


async def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """A file that cannot grow fails with cause disk_full, and works again once it can."""
    database = SqliteDatabase(tmp_path / "audit.db")
    table = database.table()
    pages = {"most": 10}
    sqlalchemy_event.listen(
        database.engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count = {pages['most']}")
    )
    async with sink_on(table) as sink:
        long = replace(event(), detail="x" * 30_000)
        with pytest.raises(AuditUnavailableError) as caught:
            await sink.record(long)
        assert "disk_full" == caught.value.cause
        pages["most"] = 10_000
        await until_recorded(sink, 1)
    assert [1, 2] == [row[1] for row in database.rows()][:2]


def test_the_file_is_private_and_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    """audit.db and its side files are 0600; connections use WAL and synchronous=FULL; parameters are hidden."""
    database = SqliteDatabase(tmp_path / "audit.db")
    SqliteAuditTable(database.engine, lambda: 1)
    with database.engine.connect() as connection:
        journal = connection.execute(text("PRAGMA journal_mode")).scalar()
        synchronous = connection.execute(text("PRAGMA synchronous")).scalar()
        modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert ("wal", 2, {0o600}, True) == (journal, synchronous, modes, database.engine.hide_parameters)


def test_the_migrations_make_the_table_the_sink_expects(postgres_database: PostgresDatabase) -> None:
    """What Alembic finds in a migrated database is the table declared here: columns, keys, indexes."""
    with postgres_database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_object": lambda _thing, name, kind, *_: kind != "table" or name == "audit_events"},
        )
        assert [] == compare_metadata(context, metadata)


KILLED = """
import asyncio, sys
from pathlib import Path
from broker.adapters.audit.postgres import PostgresAuditTable, postgres_audit_engine
from broker.adapters.audit.sink import TableAuditSink
from broker.adapters.audit.sqlite import SqliteAuditTable, sqlite_audit_engine
from tests.adapters.audit.support import event

async def call(sink, start):
    for number in range(start, start + 100_000):
        await sink.record(event(number))
        print(number, flush=True)

async def main(where):
    if where.startswith("postgresql"):
        table = PostgresAuditTable(postgres_audit_engine(where))
    else:
        table = SqliteAuditTable(sqlite_audit_engine(Path(where)), lambda: 1)
    sink = TableAuditSink(table)
    await asyncio.gather(*(call(sink, start * 100_000) for start in range(8)))

asyncio.run(main(sys.argv[1]))
"""


def test_every_reply_before_a_kill_has_its_event(database: Database) -> None:
    """A process killed by SIGKILL in full flow has left every event it replied to, and a chain without holes."""
    command = [sys.executable, "-c", KILLED, database.where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own words
        assert process.stdout is not None
        replied = [int(process.stdout.readline()) for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        # A line the kill cut short is no reply.
        replied += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    rows = database.rows()
    stored = {json.loads(row[3])["request_id"] for row in rows}
    assert set() == {f"r{number}" for number in replied} - stored
    assert list(range(1, len(rows) + 1)) == [row[1] for row in rows]
    assert "r0" == from_json(rows[0][3]).request_id
