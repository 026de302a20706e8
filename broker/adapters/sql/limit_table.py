"""The table of shared buckets, reached by a connection of its own: one statement a call, in autocommit, on PostgreSQL.

The driver is spoken to without SQLAlchemy, and arrays travel as text: this is done for almost every call of every
caller, and either would cost more than the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

import psycopg
from sqlalchemy.engine import URL

from broker.adapters.sql.engine_postgres import CONNECT_SECONDS, UNACKNOWLEDGED_MS
from broker.adapters.sql.errors import driver_cause, translate, unavailable
from broker.core.errors import StoreUnavailableError
from broker.core.gcra import Bucket, BucketState, Charge

T = TypeVar("T")

LONGEST_KEY: Final = 400
"""Bytes of a key written as it is; a longer one, of which an index takes only so many, is written as its digest."""

_SPEND: Final = (
    "SELECT array_to_string(waits, ',', ''), array_to_string(debts, ','), array_to_string(newest, ',') FROM"
    " limit_spend_v1(%s::integer[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
)
_ADD: Final = "SELECT limit_add_v1(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[])"


class Answer(NamedTuple):
    """What the store says to one charge.

    Attributes:
        wait: microseconds until it would fit, 0 where it does; None where its rule is older than the bucket's.
        debt: microseconds until the bucket is empty, as of the end of the whole statement.
        version: of the rule the bucket is kept under.
    """

    wait: int | None
    debt: int
    version: int


class LimitTable:
    """One connection's way to the table; made when it is first needed, and anew after it failed.

    Every method raises StoreUnavailableError with its cause; what was asked may have been done then. One call at a
    time.
    """

    def __init__(self, url: URL) -> None:
        """Connect later, to a URL of PostgreSQL with the driver's name in it."""
        self._url = url
        self._held: psycopg.AsyncConnection | None = None

    async def spend(self, requests: Sequence[Sequence[Charge]]) -> list[list[Answer]]:
        """Spend each request's charges, or none of them; return what is said to each charge."""
        numbered = [(number, charge) for number, charges in enumerate(requests) for charge in charges]
        values = (
            _array(number for number, _ in numbered),
            _keys(charge.bucket for _, charge in numbered),
            _array(charge.emission_interval for _, charge in numbered),
            _array(charge.tolerance for _, charge in numbered),
            _array(charge.cost for _, charge in numbered),
            _array(charge.version for _, charge in numbered),
        )
        waits, debts, newest = (column.split(",") for column in await self._run(_SPEND, values))
        answers = map(Answer, (int(wait) if wait else None for wait in waits), map(int, debts), map(int, newest))
        return [[next(answers) for _ in charges] for charges in requests]

    async def add(self, debts: Sequence[tuple[Bucket, BucketState]]) -> None:
        """Add what was spent without the store; a state's TAT here is the microseconds to add."""
        values = (
            _keys(bucket for bucket, _ in debts),
            _array(state.tat for _, state in debts),
            _array(state.emission_interval for _, state in debts),
            _array(state.version for _, state in debts),
        )
        await self._run(_ADD, values)

    async def aclose(self) -> None:
        """Close the connection."""
        held, self._held = self._held, None
        if held is not None:
            await held.close()

    async def _run(self, statement: str, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return the statement's row; a connection that died while nobody used it is replaced."""
        if self._held is not None:
            try:
                return await self._translated(lambda held: _fetch(held, statement, values))
            except StoreUnavailableError as error:
                if error.cause != "connection":
                    raise
        return await self._translated(lambda held: _fetch(held, statement, values))

    async def _translated(self, work: Callable[[psycopg.AsyncConnection], Awaitable[T]]) -> T:
        try:
            if self._held is None:
                self._held = await connect(self._url)
            return await work(self._held)
        except psycopg.Error as error:
            await self.aclose()
            raise unavailable(driver_cause(error)) from error
        except OSError as error:
            await self.aclose()
            raise translate(error) from error
        except BaseException:  # cancelled: the server may still be at it
            await self.aclose()
            raise


async def connect(url: URL) -> psycopg.AsyncConnection:
    """Return a connection in autocommit; no server-side statements, so that PgBouncer may pool."""
    _, options = url.get_dialect()().create_connect_args(url)
    return await psycopg.AsyncConnection.connect(
        **{
            **options,
            "autocommit": True,
            "prepare_threshold": None,
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": UNACKNOWLEDGED_MS,
            "application_name": "aries-broker limits",
        }
    )


async def _fetch(connection: psycopg.AsyncConnection, statement: str, values: tuple[str, ...]) -> tuple[str, ...]:
    row: tuple[str, ...] | None = await (await connection.execute(statement, values)).fetchone()
    return row or ()


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


def _keys(buckets: Iterable[Bucket]) -> str:
    quoted = (key_of(bucket).replace("\\", "\\\\").replace('"', '\\"') for bucket in buckets)
    return "{" + ",".join(f'"{key}"' for key in quoted) + "}"


def key_of(bucket: Bucket) -> str:
    """Return a bucket's key in the table: ASCII, no longer than an index takes, different for different buckets."""
    text = json.dumps(bucket)
    if len(text) <= LONGEST_KEY:
        return text
    return f"{bucket[0]} {hashlib.sha256(text.encode()).hexdigest()}"
