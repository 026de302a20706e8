"""Why a database cannot be opened, in words for who set it up.

What a server or driver says when a connection is refused has no SQLSTATE, only text, in which anything may stand: it
is looked at and never repeated, nor is anything of the URL but where it leads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.errors import DATABASE_ERRORS, StoreRefusedError, cause_of
from broker.adapters.sql.tables import metadata

_RIGHTS: Final = (
    "the role lacks rights: `aries-broker migrate` wants a role that may create tables (GRANT CREATE ON SCHEMA), and "
    "the broker's own needs GRANT USAGE ON SCHEMA and GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA"
)
_UNREADABLE: Final = text(
    "SELECT current_schema() IS NULL OR EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema()"
    " AND tablename = ANY(:ours) AND NOT has_table_privilege(format('%I.%I', schemaname, tablename), 'SELECT'))"
)

_POSTGRES: Final = (
    (
        r"failed to resolve host|could not translate host name|Name or service not known",
        "the host's name does not resolve: correct it in BROKER_DATABASE_URL, or see to this machine's DNS",
    ),
    (
        r"password authentication failed|no password supplied|authentication failed for user|SASL",
        (
            "user or password were rejected: correct them in BROKER_DATABASE_URL, with / ? # @ : of a password "
            "percent-encoded"
        ),
    ),
    (
        r"role \".*\" does not exist|no such user",
        "there is no such role: correct the user in BROKER_DATABASE_URL, or make it with CREATE ROLE",
    ),
    (
        r"database \".*\" does not exist|no such database",
        (
            "there is no such database: correct its name in BROKER_DATABASE_URL, or make it with CREATE DATABASE "
            "and run `aries-broker migrate`"
        ),
    ),
    (
        r"permission denied for database|is not permitted to log in|is not currently accepting connections",
        "the role may not connect to this database: GRANT CONNECT ON DATABASE … TO the role, which needs LOGIN",
    ),
    (
        r"too many (clients|connections)|remaining connection slots|no more connections allowed",
        (
            "it has no connection left: each broker needs 10, so raise max_connections, or the limit of the role,"
            " database or pooler"
        ),
    ),
    (
        r"SSL connection is required|SSL required|certificate|does not support SSL|SSL error",
        (
            "TLS is wanted by one side and not had, or the certificate is not trusted: set sslmode and "
            "sslrootcert in BROKER_DATABASE_URL, as in ?sslmode=verify-full&sslrootcert=/etc/ca.pem"
        ),
    ),
    (
        r"pg_hba\.conf",
        (
            "its pg_hba.conf lets this role not in from here: add a line for it, and if there is one with "
            "hostssl, ask for TLS with ?sslmode=verify-full in BROKER_DATABASE_URL"
        ),
    ),
    (
        r"invalid (connection option|integer value|\S+ value)|unrecognized configuration parameter",
        "an option behind the ? of BROKER_DATABASE_URL, or its value, is none that PostgreSQL knows: correct it",
    ),
    (
        r"starting up|shutting down|not yet accepting connections|in recovery mode",
        "it is just starting or ending: try again",
    ),
    (
        r"Connection refused",
        "the connection was refused: start PostgreSQL, or correct host and port in BROKER_DATABASE_URL",
    ),
    (
        r"No such file or directory",
        "there is no socket in that folder: start PostgreSQL, or correct host and port in BROKER_DATABASE_URL",
    ),
    (
        r"unreachable|No route to host|Host is down",
        "no network leads there: correct the host in BROKER_DATABASE_URL, or see to the network",
    ),
    (
        r"timeout expired|timed out|query_wait_timeout",
        (
            "nothing answered in time: correct host and port in BROKER_DATABASE_URL, or see whether a firewall "
            "drops what is sent there, or the server hangs"
        ),
    ),
    (
        r"received invalid response|server closed the connection|expected authentication request",
        (
            "what answers there hangs up or is no PostgreSQL: correct host and port in BROKER_DATABASE_URL, and "
            "see the server's log"
        ),
    ),
    (
        r"permission denied for|must be owner of",
        _RIGHTS,
    ),
)
_SQLITE: Final = (
    (r"not a database|malformed", "the file is damaged, or no database of the broker's: put it back from the backup"),
    (r"full|disk I/O", "the disk is full, or fails: make room, or see the system's log"),
    (r"locked|busy", "another program has the file open: end it"),
    (r"readonly|read-only|unable to open", "this user may not write the file or its folder: change their owner"),
)


@contextmanager
def refusing(where: URL | Path) -> Iterator[None]:
    """Turn what comes when a database is opened or migrated into what an operator is told.

    Args:
        where: PostgreSQL's URL, or the path of the SQLite file.

    Raises:
        StoreRefusedError: instead of one of DATABASE_ERRORS.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        # Not chained: what a driver says may hold what it was given.
        raise StoreRefusedError(f"the database {_place(where)} cannot be used: {_why(error, where)}") from None


async def refuse_without_rights(connection: AsyncConnection) -> None:
    """Make sure that the role may read every table, without which none would seem to be there.

    Raises:
        StoreRefusedError: it may not.
    """
    if (
        await connection.execute(_UNREADABLE, {"ours": ["alembic_version", "limit_bucket", *metadata.tables]})
    ).scalar_one():
        raise StoreRefusedError(_RIGHTS)


def _why(error: BaseException, where: URL | Path) -> str:
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    if isinstance(error, TimeoutError):
        said = "timed out"
    known = _SQLITE if isinstance(where, Path) else _POSTGRES
    told = next((told for pattern, told in known if re.search(pattern, said)), None)
    if told is not None:
        return told
    if isinstance(error, OSError):
        return f"the system says: {error.strerror or type(error).__name__}"
    return f"it answered with an error ({cause_of(error)}), about which its log says more"


def _place(where: URL | Path) -> str:
    if isinstance(where, Path):
        return str(where)
    host, port = where.host or where.query.get("host", "this machine"), where.port or where.query.get("port")
    return f"{where.database} at {host}" + (f":{port}" if port else "")
