"""What an older version stored is there after the migrations, and goes on from where it stood."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from broker.adapters.sql import migrate
from broker.adapters.sql.migrate import alembic_config, database_url
from broker.core import lease
from broker.core.grant_state import Phase
from broker.core.sealing import Sealed
from tests.contract.backends import DATA_KEYS, open_sql
from tests.support.postgres import PostgresServer

OLD = "0004"
STATE = (
    "INSERT INTO grants (id, name, origin, client, type, scopes, mac, mac_key_id, consent, generation, epoch, current,"
    " phase, health, hold, attempt, lease_until, first_sent_at, sends, probes, not_before) VALUES"
    " ('{id}', '{id}', 'file', 'desk', 'refresh_token', '[\"read\"]', '', 'mac-1', 2, 7, 3, 't7',"
    " '{phase}', 'ok', 'none', 9, 0, {sent_at}, {sends}, 0, 0)"
)
TOKEN = (
    "INSERT INTO refresh_tokens (grant_id, fingerprint, consent, attempt, key_id, ciphertext, received_at,"
    " first_sent_at) VALUES ('{id}', 't7', 2, 9, 'aead-1', {sealed}, 5, {sent_at})"
)
ACCESS = (
    "INSERT INTO access_tokens (grant_id, epoch, client_id, scopes, resource, attempt, token_attempt, granted,"
    " verified, life_ms, lifetime_assumed, expires_at, lease_until) VALUES ('{id}', 3, 'c', '[]', '', 9, 9, '[]',"
    " true, 9, false, 9, 0)"
)
FACTS: tuple[dict[str, object], ...] = (
    {"id": "idle", "phase": "idle", "sent_at": "NULL", "sends": 0},
    {"id": "sent", "phase": "sent", "sent_at": 6, "sends": 1},
)


def statements(sealed: str) -> list[str]:
    """Return what the old version wrote: an idle grant, one in the middle of a send, their tokens."""
    keys = [
        f"INSERT INTO data_keys (id, purpose, state, wraps) VALUES ('{key.id}', '{key.purpose}', '{key.state}', '{{}}')"  # noqa: S608 - words of ours
        for key in DATA_KEYS
    ]
    grants = [written.format(**facts, sealed=sealed) for facts in FACTS for written in (STATE, TOKEN, ACCESS)]
    return [*keys, *grants]


async def make_old(url: str, sealed: str) -> None:
    """Bring a database to the old version's tables, with what it stored."""

    def upgrade(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, OLD)

    engine = create_async_engine(database_url(url))
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
        for statement in statements(sealed):
            await connection.execute(text(statement.replace(":", "\\:")))
    await engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_grants_go_on_with_their_tokens(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Idle ones are redeemed, one in the middle of a send is in doubt since then; access tokens are got anew."""
    url = None
    if kind == "sqlite":
        (tmp_path / "data").mkdir()
        await make_old(f"sqlite:///{tmp_path / 'data' / 'broker.db'}", "x'00ff'")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url(server.create_database())
        await make_old(url, r"'\x00ff'")
        await migrate(url)
    backend = await open_sql(url, tmp_path / "data")
    idle, sent = await backend.sql.get_state("idle"), await backend.sql.get_state("sent")
    assert idle is not None
    assert sent is not None
    kept = await backend.sql.refresh_token("idle", "t7")
    assert kept is not None
    assert (Sealed("aead-1", b"\x00\xff"), 2, 9) == (kept.sealed, kept.consent, kept.attempt)
    facts = [(one.state.consent, one.state.generation, one.state.epoch, one.state.current) for one in (idle, sent)]
    assert [(2, 7, 3, "t7")] * 2 == facts
    since = (sent.state.first_sent_at is not None, sent.state.last_sent_at is not None)
    assert (Phase.SENT, (True, True)) == (sent.state.phase, since)
    taken = [await backend.sql.apply(name, lease.Take("me")) for name in ("idle", "sent")]
    unknown = await backend.sql.apply("sent", lease.Unknown(None))
    assert [True, False, True] == [state is not None for state in (*taken, unknown)]
    assert [] == await backend.execute("SELECT * FROM access_tokens")
    await backend.aclose()
