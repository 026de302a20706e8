"""The writer's one connection: held while it works, made anew after it failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from broker.adapters.audit.table import AuditTableError, DuplicateDeliveryError, audit_events


class HeldConnection:
    """A connection for one thread."""

    def __init__(self, engine: Engine, cause_of: Callable[[SQLAlchemyError], str]) -> None:
        """Connect later, with `engine`; `cause_of` names a failure."""
        self._engine = engine
        self._cause_of = cause_of
        self._held: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend the connection in a transaction (or none, where the engine is in autocommit).

        Raises:
            DuplicateDeliveryError: a unique constraint refused a row.
            AuditTableError: anything else; the connection is dropped.
        """
        try:
            if self._held is None:
                self._held = self._engine.connect()
            with self._held.begin():
                yield self._held
        except IntegrityError as error:
            raise DuplicateDeliveryError from error
        except SQLAlchemyError as error:
            self.drop()
            raise AuditTableError(self._cause_of(error)) from error

    def known_outbox_ids(self, ids: Collection[str]) -> frozenset[str]:
        """Return those outbox ids whose events are in the table; AuditTableError."""
        wanted = select(audit_events.c.outbox_id).where(audit_events.c.outbox_id.in_(ids))
        with self.transaction() as connection:
            return frozenset(connection.execute(wanted).scalars())

    def drop(self) -> None:
        """Close the connection, whatever state it is in."""
        held, self._held = self._held, None
        if held is not None:
            with suppress(SQLAlchemyError):
                held.invalidate()
            with suppress(SQLAlchemyError):
                held.close()
