"""Logs: one JSON object a line, our own events and the libraries' alike, and nothing in them that was not meant.

What may hold anything does not get in: of an exception its type and frames, without locals and without the text that
libraries put together from what they were given; of an object that is no plain value its type.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from broker.core.errors import BrokerError
from broker.core.secret import Secret
from broker.core.visible import escape

QUIET: Final = (
    *("uvicorn", "httpx", "httpx2", "httpcore", "httpcore2", "hpack"),
    *("alembic", "sqlalchemy", "aiosqlite", "asyncio", "grpc"),
)
"""Libraries that log at WARNING and above whatever the level is: below it they tell of addresses, headers and what is
written to the database."""

MAX_DEPTH: Final = 8
"""Deepest nesting of a logged value; what lies deeper is left out."""


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Send every log of this process to `stream` (stderr unless given), one JSON object a line.

    Args:
        level: debug, info, warning or error; libraries named in QUIET stay at WARNING or above.
        stream: where to; flushed after each line.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _tell_exception,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _tame_asyncio],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _route_libraries(max(root.level, logging.WARNING))
    logging.captureWarnings(capture=True)


def _route_libraries(level: int) -> None:
    """Take away the handlers libraries gave their loggers, so that each line passes ours, and quiet the talkative."""
    for name in [*logging.root.manager.loggerDict, *QUIET]:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        if name.partition(".")[0] in QUIET:
            logger.setLevel(level)


def _tell_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by what may be told of it: types and frames of the chain, innermost first."""
    given = event.pop("exc_info", None)
    raised = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    if given is True:
        raised = sys.exception()
    if raised is not None:
        event["exceptions"] = [_told(one) for one in _chain(raised)]
    return event


def _chain(raised: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    one: BaseException | None = raised
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return chain[::-1]


def _told(one: BaseException) -> dict[str, object]:
    """Tell an exception's type and frames; in words only what we wrote ourselves, or the operating system's number."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(one.__traceback__)]
    told: dict[str, object] = {"type": f"{type(one).__module__}.{type(one).__qualname__}", "frames": frames}
    if isinstance(one, BrokerError):
        told |= {"reason": one.reason.value, "cause": one.cause}
    elif isinstance(one, OSError) and one.errno is not None:
        told["errno"] = one.errno
    elif isinstance(one, BaseExceptionGroup):
        told["group"] = [_told(inner) for inner in one.exceptions]
    return told


def _tame_asyncio(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep the first line of asyncio's reports: the others print tasks, and with them the text of exceptions."""
    if event.get("logger") == "asyncio":
        event["event"] = str(event.get("event", "")).partition("\n")[0]
    return event


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return json.dumps(_plain(event))


def _plain(value: object, depth: int = 0) -> object:
    """Return a value as JSON may hold it: texts escaped, plain values as they are, of anything else the type."""
    if depth > MAX_DEPTH:
        return "<deeper>"
    match value:
        case None | bool() | int() | float():
            return value
        case str() | Secret() | PurePath() | datetime():
            return escape(str(value))
        case Mapping():
            return {escape(str(_plain(key, depth + 1))): _plain(inner, depth + 1) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(inner, depth + 1) for inner in value]
        case _:
            return f"<{type(value).__qualname__}>"
