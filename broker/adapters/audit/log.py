"""Reading the audit log back, on a connection of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from broker.adapters.audit.table import audit_events
from broker.core.audit import AuditEvent, from_json
from broker.core.errors import AuditUnavailableError

READ_SECONDS: Final = 5.0


class TableAuditLog:
    """Port `AuditLog` over the table; each reading is a short-lived connection in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        """Read with the engine of `sqlite_audit_engine` or `postgres_audit_engine`."""
        self._engine = engine

    async def newest(self, limit: int) -> Sequence[AuditEvent]:
        """Return at most `limit` durable events, newest first.

        Raises:
            AuditUnavailableError: the database did not answer within READ_SECONDS (cause timeout or gone).
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()
        # Not an executor: its threads keep a process from ending while the database hangs.
        threading.Thread(target=self._read, args=(limit, loop, answer), name="audit-reader", daemon=True).start()
        try:
            lines = await asyncio.wait_for(answer, READ_SECONDS)
        except TimeoutError:
            raise AuditUnavailableError("the audit log cannot be read now", cause="timeout") from None
        except SQLAlchemyError as error:
            raise AuditUnavailableError("the audit log cannot be read now", cause="gone") from error
        return [from_json(line) for line in lines]

    def _read(self, limit: int, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Sequence[str]]) -> None:
        events = audit_events.c
        newest = select(events.event).order_by(events.time.desc(), events.chain, events.seq.desc()).limit(limit)
        outcome: Sequence[str] | SQLAlchemyError
        try:
            with self._engine.connect() as connection:
                outcome = connection.execute(newest).scalars().all()
        except SQLAlchemyError as error:
            outcome = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_answer, answer, outcome)


def _answer(answer: asyncio.Future[Sequence[str]], outcome: Sequence[str] | SQLAlchemyError) -> None:
    if answer.done():
        return
    if isinstance(outcome, SQLAlchemyError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
