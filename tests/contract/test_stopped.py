"""Processes that are stopped, or cut off, inside a transaction: the server takes from them what they hold."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql import grant_row, migrate
from broker.adapters.sql.lanes import Lane
from broker.core import lease
from broker.core.errors import StoreUnavailableError
from broker.core.grant_state import GrantState
from broker.main.foundation import TIMES
from tests.contract.backends import DATA_KEYS, OpenStore, SqlBackend
from tests.contract.test_redeem import consented_grant
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PostgresServer
from tests.support.waiting import until_told

LONG = 60.0
"""Seconds: longer than anything here takes."""


@dataclass
class Stopped:
    """A transaction that has locked a grant's row and says nothing more, as that of a stopped process.

    Attributes:
        inside: set once it holds the row.
        resumed: lets it go on.
    """

    backend: SqlBackend
    grant_id: str
    inside: asyncio.Event = field(default_factory=asyncio.Event)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> str:
        """Return why it came to nothing."""

        async def work(connection: AsyncConnection) -> None:
            await grant_row.lock(connection, self.grant_id)
            self.inside.set()
            await self.resumed.wait()

        try:
            await self.backend.database._lanes.write(work, seconds=LONG)
        except StoreUnavailableError as error:
            return error.cause
        return "committed"


async def test_another_takes_what_a_stopped_process_held(
    postgres_url: str, pgbouncer: PgBouncer, migrated: str, open_store: OpenStore
) -> None:
    """Before its owner's lease can be over a row is free, straight or behind a pooler, and nothing is committed."""
    stores = [await open_store(url, str(n)) for n, url in enumerate((postgres_url, pgbouncer.url(migrated)))]
    await stores[0].data_keys.add_first_data_keys(DATA_KEYS)
    stopped = [Stopped(store, await consented_grant(store)) for store in stores]
    processes = [asyncio.create_task(one.run()) for one in stopped]
    for one in stopped:
        await one.inside.wait()
    other = await open_store(postgres_url, "other")
    began = asyncio.get_running_loop().time()
    try:
        await asyncio.gather(*(_until_taken(other, one.grant_id) for one in stopped))
    finally:
        for one in stopped:
            one.resumed.set()
    took = asyncio.get_running_loop().time() - began
    assert ["commit", "commit"] == await asyncio.gather(*processes)
    assert took < (TIMES.lease - TIMES.extend_every) / 1000


async def _until_taken(backend: SqlBackend, grant_id: str) -> None:
    taken: list[GrantState] = []

    async def take() -> bool:
        try:
            state = await backend.store.apply(grant_id, lease.Take("other"))
        except StoreUnavailableError:  # it waited long enough for the row
            return False
        taken.extend([] if state is None else [state])
        return bool(taken)

    await until_told(take)


@pytest.fixture(params=["postgres", "pgbouncer"])
def url(request: pytest.FixtureRequest, postgres_url: str, migrated: str) -> str:
    """Return the URL of an empty store, straight or behind a pooler."""
    if request.param == "postgres":
        return postgres_url
    bouncer: PgBouncer = request.getfixturevalue("pgbouncer")
    return bouncer.url(migrated)


async def test_every_transaction_is_bounded(url: str, open_store: OpenStore) -> None:
    """Whoever reads or writes, in whichever lane: idle for five seconds at most, and for a lock it waits less."""
    lanes = (await open_store(url)).database._lanes
    bounds = [await lanes.read(_bounds), *[await lanes.write(_bounds, lane=lane) for lane in Lane]]
    assert [("5s", "4s")] * 3 == bounds


async def _bounds(connection: AsyncConnection) -> tuple[str, str]:
    names = ("idle_in_transaction_session_timeout", "lock_timeout")
    idle, lock = [(await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in names]
    return idle, lock


async def test_a_migration_is_bounded(postgres: PostgresServer) -> None:
    """Whoever is stopped while it changes the tables keeps the brokers from them for a minute at most."""
    name = postgres.create_database()
    for statement in (
        "CREATE TABLE noted (bound text)",
        (
            "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO noted VALUES (current_setting('idle_in_transaction_session_timeout')); END $$"
        ),
        "CREATE EVENT TRIGGER changed ON ddl_command_end EXECUTE FUNCTION note()",
    ):
        postgres.execute(statement, name)
    await migrate(postgres.url(name))
    assert [("1min",)] == postgres.execute("SELECT DISTINCT bound FROM noted", name)
