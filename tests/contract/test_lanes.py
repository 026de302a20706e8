"""Transactions: out of reach of cancellation, bounded in time, read back when the answer to COMMIT was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.admin import Change, change
from broker.adapters.sql.database import SqlStore
from broker.adapters.sql.errors import translate
from broker.adapters.sql.lanes import Engine, Lane
from broker.core import lease
from broker.core.audit import Action, AuditEvent
from broker.core.errors import StoreUnavailableError
from broker.core.grant_state import GrantState, Phase
from tests.contract.backends import EVENT, SEALED, SqlBackend, put_grant, record_of
from tests.contract.test_access_tokens import key, token
from tests.contract.test_redeem import consented_grant, sent


class _LosingConnection:
    """A connection whose COMMIT loses its answer, after it happened or instead of it."""

    def __init__(self, connection: AsyncConnection, *, happens: bool) -> None:
        self._connection = connection
        self._happens = happens

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a connection has
        return getattr(self._connection, name)

    async def commit(self) -> None:
        if self._happens:
            await self._connection.commit()
        raise OperationalError("COMMIT", None, OSError("gone"), connection_invalidated=True)


@dataclass
class LosingEngine:
    """An engine that loses the answer to the next COMMIT."""

    inner: Engine
    happens: bool
    armed: bool = True

    @property
    def interruptible(self) -> bool:
        return self.inner.interruptible

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        async with self.inner.reading() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self, lane: Lane) -> AsyncIterator[AsyncConnection]:
        async with self.inner.writing(lane) as connection:
            if self.armed:
                self.armed = False
                yield _LosingConnection(connection, happens=self.happens)  # type: ignore[misc]
            else:
                yield connection

    async def dispose(self) -> None:
        await self.inner.dispose()


def lose_next_commit(sql: SqlBackend, *, happens: bool) -> None:
    """Let the next COMMIT of a store lose its answer."""
    lanes = sql.database._lanes
    lanes._engine = LosingEngine(lanes._engine, happens)


async def state_of(sql: SqlBackend, grant_id: str) -> GrantState:
    """Return a grant's state as stored."""
    grant = await sql.store.get_grant(grant_id)
    assert grant is not None
    return grant.state


# --- an answer to COMMIT that was lost -------------------------------------------------------------------------------


async def test_a_licence_whose_answer_was_lost_is_read_back(sql: SqlBackend) -> None:
    """SENT committed but not answered is SENT."""
    grant_id = await consented_grant(sql)
    taken = await sql.store.apply(grant_id, lease.Take("me"))
    assert taken is not None
    lose_next_commit(sql, happens=True)
    sent_ = lease.Sent(taken.attempt, taken.generation, None)
    state = await sql.store.licence(sent_, record_of(grant_id, taken.attempt))
    assert state is not None
    assert Phase.SENT is state.phase


async def test_a_licence_that_was_not_committed_is_none(sql: SqlBackend) -> None:
    """SENT whose COMMIT never happened is an error, cause `commit`, and the grant is still prepared."""
    grant_id = await consented_grant(sql)
    taken = await sql.store.apply(grant_id, lease.Take("me"))
    assert taken is not None
    lose_next_commit(sql, happens=False)
    with pytest.raises(StoreUnavailableError) as refused:
        await sql.store.licence(lease.Sent(taken.attempt, taken.generation, None), record_of(grant_id, taken.attempt))
    assert ("commit", Phase.PREPARED) == (refused.value.cause, (await state_of(sql, grant_id)).phase)


async def test_a_step_that_did_not_happen_needs_no_commit(sql: SqlBackend) -> None:
    """Losing the answer to a transaction that changed nothing changes nothing."""
    grant_id = await consented_grant(sql)
    lose_next_commit(sql, happens=False)
    assert await sql.store.apply(grant_id, lease.Finish(99)) is None


@pytest.mark.parametrize("happens", [True, False])
async def test_a_kept_token_whose_answer_was_lost(sql: SqlBackend, happens: bool) -> None:
    """KEEP and LAND are one: read back as current, or neither happened and the caller is told."""
    grant_id = await consented_grant(sql)
    state = await sent(sql, grant_id)
    land = lease.Land(state.attempt, state.generation, state.consent, "t1")
    lose_next_commit(sql, happens=happens)
    if happens:
        assert "t1" == (await sql.store.keep_and_land(grant_id, land, SEALED, EVENT)).current
    else:
        with pytest.raises(StoreUnavailableError):
            await sql.store.keep_and_land(grant_id, land, SEALED, EVENT)
    stored = await state_of(sql, grant_id)
    assert happens == ("t1" in {kept.fingerprint for kept in stored.tokens})


@pytest.mark.parametrize("happens", [True, False])
async def test_a_fenced_off_token_whose_answer_was_lost(sql: SqlBackend, happens: bool) -> None:
    """A token kept but not made current is known by the event of its transaction."""
    grant_id = await consented_grant(sql)
    late = lease.Land(99, 99, 1, "late")
    lose_next_commit(sql, happens=happens)
    if happens:
        assert "t0" == (await sql.store.keep_and_land(grant_id, late, SEALED, EVENT)).current
    else:
        with pytest.raises(StoreUnavailableError):
            await sql.store.keep_and_land(grant_id, late, SEALED, EVENT)


@pytest.mark.parametrize("happens", [True, False])
async def test_a_finish_whose_answer_was_lost(sql: SqlBackend, happens: bool) -> None:
    """FINISH is known by the access token it stored."""
    grant_id = await consented_grant(sql)
    state = await sent(sql, grant_id)
    await sql.store.apply(grant_id, lease.NotRotated(state.attempt))
    lose_next_commit(sql, happens=happens)
    finish = sql.store.finish(
        grant_id, lease.Finish(state.attempt), token(key(grant_id, "read"), state.attempt), "key:x"
    )
    if happens:
        assert await finish is not None
    else:
        with pytest.raises(StoreUnavailableError):
            await finish
    assert (Phase.IDLE if happens else Phase.LANDED) is (await state_of(sql, grant_id)).phase


@pytest.mark.parametrize("happens", [True, False])
async def test_a_configuration_change_whose_answer_was_lost(sql: SqlBackend, happens: bool) -> None:
    """A write is reported as done or as not done, as it was."""
    before = await sql.store.read_version()
    lose_next_commit(sql, happens=happens)
    if happens:
        await put_grant(sql.store, "desk")
    else:
        with pytest.raises(StoreUnavailableError) as refused:
            await put_grant(sql.store, "desk")
        assert "commit" == refused.value.cause
    assert before + happens == await sql.store.read_version()


# --- callers that leave ----------------------------------------------------------------------------------------------


async def test_a_cancelled_caller_does_not_cancel_the_commit(sql: SqlBackend) -> None:
    """A caller cancelled while its transaction runs leaves; the transaction is committed, closing waits for it."""
    inside, go_on = asyncio.Event(), asyncio.Event()
    grant_id = await consented_grant(sql)

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE grants SET owner = 'committed'"))
        inside.set()
        await go_on.wait()

    caller = asyncio.create_task(sql.database._lanes.write(work, lane=Lane.COMMIT))
    await inside.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    assert "committed" == await _owner_later(sql, grant_id)


async def test_a_version_is_noted_though_its_caller_left(sql: SqlBackend) -> None:
    """What a cancelled operator's call committed is known in this process: freezes hold at once all the same."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: Change) -> None:
        inside.set()
        await go_on.wait()

    event = AuditEvent(datetime(2026, 1, 1, tzinfo=UTC), Action.CONFIG_PUT)
    caller = asyncio.create_task(change(sql.database._lanes, work, event))
    await inside.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    while sql.database._lanes._running:
        await asyncio.wait(set(sql.database._lanes._running))
    assert isinstance(sql.store, SqlStore)
    noted = sql.store.version()
    assert noted == await sql.store.read_version()


async def _owner_later(sql: SqlBackend, grant_id: str) -> str | None:
    """Wait until what runs has ended; return the grant's owner."""
    while sql.database._lanes._running:
        await asyncio.wait(set(sql.database._lanes._running))
    return (await state_of(sql, grant_id)).owner


async def test_closing_waits_for_what_runs(sql: SqlBackend) -> None:
    """A transaction under way when the store closes is committed; a later call is refused, cause `closed`."""
    committed = []
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE control SET version = version + 1"))
        inside.set()
        await go_on.wait()
        committed.append(True)

    caller = asyncio.create_task(sql.database._lanes.write(work))
    await inside.wait()
    closing = asyncio.create_task(sql.aclose())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(caller, closing)
    with pytest.raises(StoreUnavailableError) as refused:
        await sql.store.read_version()
    assert ([True], "closed") == (committed, refused.value.cause)


async def test_a_caller_does_not_wait_for_ever(sql: SqlBackend) -> None:
    """A transaction that takes too long ends the caller's wait, cause `timeout`."""
    go_on = asyncio.Event()

    async def work(_connection: AsyncConnection) -> None:
        await go_on.wait()

    with pytest.raises(StoreUnavailableError) as refused:
        await sql.database._lanes.write(work, seconds=0.05)
    go_on.set()
    assert "timeout" == refused.value.cause


async def test_the_commit_lane_is_not_behind_the_shared_one(sql: SqlBackend) -> None:
    """However many shared transactions wait, a commit of the redeem comes first after the one that runs."""
    inside, go_on = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def first(_connection: AsyncConnection) -> None:
        inside.set()
        await go_on.wait()

    async def note(connection: AsyncConnection, name: str) -> None:
        await connection.execute(text("SELECT 1"))
        order.append(name)

    lanes = sql.database._lanes
    blockers = [asyncio.create_task(lanes.write(first)) for _ in range(1 if sql.on_sqlite else 8)]
    await inside.wait()
    shared = asyncio.create_task(lanes.write(lambda connection: note(connection, "shared")))
    await asyncio.sleep(0)
    commit = asyncio.create_task(lanes.write(lambda connection: note(connection, "commit"), lane=Lane.COMMIT))
    if not sql.on_sqlite:
        await commit
    go_on.set()
    await asyncio.gather(shared, commit, *blockers)
    assert ["commit", "shared"] == order


# --- errors ----------------------------------------------------------------------------------------------------------


async def test_errors_hold_no_values(sql: SqlBackend) -> None:
    """Neither the broker's error nor the driver's it came from shows the values of a statement."""
    with pytest.raises(StoreUnavailableError) as refused:
        await sql.execute("INSERT INTO nowhere VALUES (:value)", value="canary-value")
    chain = [refused.value, refused.value.__cause__]
    assert (["schema", None], False) == (
        [getattr(error, "cause", None) for error in chain],
        any("canary-value" in f"{error!s}{error!r}" for error in chain),
    )


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "connection"),
        (DBAPIError("x", None, Exception("database is locked")), "busy"),
        (DBAPIError("x", None, Exception("database or disk is full")), "full"),
        (DBAPIError("x", None, Exception("no such table: grants")), "schema"),
        (DBAPIError("x", None, Exception("whatever")), "database"),
        (ValueError(), "database"),
    ],
)
def test_causes_come_from_a_closed_list(error: Exception, cause: str) -> None:
    """Whatever a driver says becomes one of our own words."""
    assert cause == translate(error).cause
