"""What can go wrong with a database, as the broker tells it: one error, its cause from a closed list."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from broker.core.errors import StoreUnavailableError

DATABASE_ERRORS = (DBAPIError, PoolTimeoutError, OSError)
"""What a driver, a pool or a socket raises; `TimeoutError` is an OSError. Anything else is a bug and passes."""


class StoreRefusedError(Exception):
    """The store cannot be opened as it is; the text tells an operator why and what to do."""


def unavailable(cause: str) -> StoreUnavailableError:
    """Return the one error callers see.

    Args:
        cause: one of connection, timeout, pool, busy, conflict, full, constraint, schema, database, commit, mac,
            closed.
    """
    return StoreUnavailableError("the store did not answer in time", cause=cause)


def translate(error: BaseException) -> StoreUnavailableError:
    """Return the broker's error for one of DATABASE_ERRORS; its text holds nothing of the driver's."""
    return unavailable(cause_of(error))


def cause_of(error: BaseException) -> str:
    """Return which cause one of DATABASE_ERRORS is."""
    if isinstance(error, PoolTimeoutError):
        return "pool"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError):
        return "connection"
    if isinstance(error, IntegrityError):
        return "constraint"
    if isinstance(error, DBAPIError):
        return "connection" if error.connection_invalidated else driver_cause(error.orig)
    return "database"


def driver_cause(error: BaseException | None) -> str:
    """Return which cause an error of a database's driver is."""
    if hasattr(type(error), "sqlstate"):  # psycopg's, which is loaded only where it is the driver
        return _postgres_cause(getattr(error, "sqlstate", None))
    text = str(error)
    if "locked" in text or "busy" in text:
        return "busy"
    if "full" in text or "disk I/O" in text:
        return "full"
    if "no such" in text:
        return "schema"
    return "database"


def _postgres_cause(state: str | None) -> str:
    if state is None or state.startswith(("08", "57P")):
        return "connection"
    for prefix, cause in (
        ("57014", "timeout"),
        ("25", "connection"),  # read-only: the server is being replaced
        ("22", "constraint"),
        ("23", "constraint"),
        ("54", "constraint"),
        ("55P03", "busy"),
        ("40", "conflict"),
        ("53", "full"),
        ("42", "schema"),
    ):
        if state.startswith(prefix):
            return cause
    return "database"
