"""Stopping a broker's process, at any moment or at the worst: with a grant locked in the database."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg

from tests.support.waiting import ENOUGH

Stop = Callable[[int, str], None]
"""Stops the process of an id, which works on the database of a URL."""

_HOLDING: Final = (
    "SELECT FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE state = 'idle in transaction'"
    " AND relation = 'grants'::regclass AND mode = 'RowExclusiveLock'"
)


def stop(pid: int, _url: str) -> None:
    """Stop a process wherever it is; return once it has."""
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        pass


def stop_inside_a_transaction(pid: int, url: str) -> None:
    """Stop a process that keeps a lease, while a transaction of its own holds the grant's row.

    It comes there again and again, since it extends the lease: until it is seen there it is let go on.
    """
    give_up = time.monotonic() + ENOUGH
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < give_up:
            if not connection.execute(_HOLDING).rowcount:
                continue
            stop(pid, url)
            if connection.execute(_HOLDING).rowcount:
                return
            os.kill(pid, signal.SIGCONT)
    message = "the process was never seen inside a transaction"
    raise AssertionError(message)
