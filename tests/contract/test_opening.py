"""A database that cannot be opened: the operator is told why and what to do, and never a password."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from broker.adapters.sql import StoreRefusedError, migrate
from tests.contract.backends import open_sql
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.waiting import until

PASSWORD = "hunter2/@"
LOGIN = f"desk:{quote(PASSWORD, safe='')}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[PostgresServer]:
    """A server with few connections, of whose roles some need a password or are not let in."""
    with running_postgres(settings=("max_connections=8", "superuser_reserved_connections=1")) as server:
        server.execute(f"CREATE ROLE desk LOGIN PASSWORD '{PASSWORD}'")
        server.execute("CREATE ROLE outsider LOGIN")
        server.execute("CREATE ROLE guest LOGIN")
        server.execute("CREATE ROLE group_of_roles NOLOGIN")
        server.execute("CREATE ROLE single LOGIN CONNECTION LIMIT 0")
        server.execute("CREATE DATABASE closed")
        server.execute("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text("local all desk scram-sha-256\nlocal all outsider reject\n" + rules.read_text())
        server.execute("SELECT pg_reload_conf()")
        yield server


async def _told(url: str, folder: Path) -> str:
    """Return what opening and migrating say alike; neither tells the password, not even in a traceback."""
    told = []
    for attempt in (open_sql(url, folder), migrate(url)):
        with pytest.raises(StoreRefusedError) as refused:
            await attempt
        told.append(str(refused.value))
        whole = "".join(traceback.format_exception(refused.value))
        assert [False, False] == [text in whole for text in ("hunter2", url)]
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize(
    ("login", "database", "why"),
    [
        ("desk:hunter2-wrong", "postgres", "user or password were rejected"),
        ("desk", "postgres", "user or password were rejected"),
        (LOGIN, "nowhere", "there is no such database: correct its name"),
        (LOGIN, "closed", "the role may not connect to this database: GRANT CONNECT"),
        ("group_of_roles", "postgres", "the role may not connect to this database"),
        ("nobody", "postgres", "there is no such role"),
        ("single", "postgres", "it has no connection left: each broker needs 10"),
        ("outsider", "postgres", "its pg_hba.conf lets this role not in from here"),
        ("guest", "postgres?options=-c%20nonsense%3D1", "an option behind the ? of BROKER_DATABASE_URL"),
        ("guest", "postgres?sslmod=require", "an option behind the ? of BROKER_DATABASE_URL"),
        ("guest", "postgres?sslmode=hunter2", "an option behind the ? of BROKER_DATABASE_URL"),
    ],
)
async def test_a_server_that_lets_nobody_in(
    guarded: PostgresServer, login: str, database: str, why: str, tmp_path: Path
) -> None:
    """Each reason of the server's is told for itself, with where it is and what to do."""
    joint = "&" if "?" in database else "?"
    told = await _told(f"postgresql://{login}@/{database}{joint}host={guarded.folder}&port={guarded.port}", tmp_path)
    name = database.partition("?")[0]
    assert told.startswith(f"the database {name} at {guarded.folder}:{guarded.port} cannot be used: {why}")


async def test_the_right_password_is_let_in(guarded: PostgresServer, tmp_path: Path) -> None:
    """As far as the tables, which are not there yet."""
    url = f"postgresql://{LOGIN}@/postgres?host={guarded.folder}&port={guarded.port}"
    with pytest.raises(StoreRefusedError, match="run `aries-broker migrate` first"):
        await open_sql(url, tmp_path)


async def test_a_server_without_a_free_connection(guarded: PostgresServer, tmp_path: Path) -> None:
    """All are taken: told, and what a broker needs."""
    taken: list[psycopg.Connection] = []
    url = f"postgresql://guest@/postgres?host={guarded.folder}&port={guarded.port}"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                taken.append(stack.enter_context(contextlib.closing(psycopg.connect(url))))
        told = await _told(url, tmp_path)
    assert "it has no connection left: each broker needs 10" in told
    assert taken
    free = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'guest'"
    await until(lambda: [(0,)] == guarded.execute(free))


async def test_a_role_that_may_not_make_tables(guarded: PostgresServer, tmp_path: Path) -> None:
    """`migrate` says which rights it wants."""
    url = f"postgresql://guest@/postgres?host={guarded.folder}&port={guarded.port}"
    with pytest.raises(StoreRefusedError, match="the role lacks rights: `aries-broker migrate` wants"):
        await migrate(url)


@pytest.mark.parametrize(
    "taken",
    ["REVOKE SELECT ON grants FROM PUBLIC", "REVOKE USAGE ON SCHEMA public FROM PUBLIC"],
    ids=["a table", "the schema"],
)
async def test_a_role_that_may_not_read_the_tables(postgres: PostgresServer, taken: str, tmp_path: Path) -> None:
    """Rights that are not there are told; the tables do not seem to be out of date."""
    name = postgres.create_database()
    await migrate(postgres.url(name))
    postgres.execute("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    postgres.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC", name)
    url = postgres.url(name).replace("broker@", "reader@")
    await (await open_sql(url, tmp_path)).aclose()
    postgres.execute(taken, name)
    with pytest.raises(StoreRefusedError, match=r"the role lacks rights: .* GRANT USAGE ON SCHEMA and GRANT SELECT"):
        await open_sql(url, tmp_path)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def _listening(answer: Answer) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await answer(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def _hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(8)


async def _speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def _have_no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"N")
    await reader.read()


async def _say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("answer", "options", "why"),
    [
        (_hang_up, "", "what answers there hangs up or is no PostgreSQL"),
        (_speak_http, "", "what answers there hangs up or is no PostgreSQL"),
        (_have_no_tls, "?sslmode=require", "TLS is wanted by one side and not had"),
        (_have_no_tls, "?sslmode=verify-full&sslrootcert=/nowhere.pem", "TLS is wanted by one side and not had"),
        (_say_nothing, "", "nothing answered in time"),
    ],
)
async def test_a_port_where_no_postgresql_answers(answer: Answer, options: str, why: str, tmp_path: Path) -> None:
    """Whatever listens there, and however."""
    async with _listening(answer) as port:
        told = await _told(f"postgresql://{LOGIN}@127.0.0.1:{port}/broker{options}", tmp_path)
    assert told.startswith(f"the database broker at 127.0.0.1:{port} cannot be used: {why}")


async def test_a_port_that_refuses(tmp_path: Path) -> None:
    """Nothing listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        told = await _told(f"postgresql://{LOGIN}@127.0.0.1:{bound.getsockname()[1]}/broker", tmp_path)
    assert "the connection was refused: start PostgreSQL, or correct host and port" in told


async def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    """The host is named."""
    told = await _told(f"postgresql://{LOGIN}@db.invalid/broker", tmp_path)
    assert told.startswith("the database broker at db.invalid cannot be used: the host's name does not resolve")


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    """The folder is named."""
    told = await _told(f"postgresql://broker@/broker?host={tmp_path}", tmp_path)
    assert told.startswith(f"the database broker at {tmp_path} cannot be used: there is no socket in that folder")


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """The file is named, and that the backup has it."""
    (tmp_path / "broker.db").write_bytes(b"not SQLite's, by its first bytes\n" * 200)
    with pytest.raises(StoreRefusedError) as refused:
        await open_sql(None, tmp_path)
    assert str(refused.value).startswith(f"the database {tmp_path / 'broker.db'} cannot be used: the file is damaged")


async def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    """What the system says is told."""
    (tmp_path / "broker.db").symlink_to(tmp_path / "nowhere" / "broker.db")
    with pytest.raises(StoreRefusedError, match=r"broker\.db cannot be used: the system says: File exists"):
        await open_sql(None, tmp_path)
