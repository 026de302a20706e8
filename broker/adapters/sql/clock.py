"""The store's clock as an SQL expression, the same in every statement on either database."""

from __future__ import annotations

import time

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

BOOT_FUNCTION = "boot_ms"
"""Name under which every SQLite connection of ours knows `boot_ms`."""


class now_ms(FunctionElement[int]):  # noqa: N801 - reads as the SQL function it is
    """Milliseconds of the store's clock, read when the row is looked at, not when the transaction began.

    PostgreSQL: its own UTC clock. SQLite: CLOCK_BOOTTIME of the host, which all processes share and nobody can step.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "postgresql")
def _on_postgresql(_element: now_ms, _compiler: SQLCompiler, **_options: object) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "sqlite")
def _on_sqlite(_element: now_ms, _compiler: SQLCompiler, **_options: object) -> str:
    return f"{BOOT_FUNCTION}()"


def boot_ms() -> int:
    """Return milliseconds since the host started, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
