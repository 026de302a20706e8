"""Logs: JSON lines of our own events and the libraries', with nothing in them that was not meant."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from broker.adapters.logs import QUIET, configure_logs
from broker.core.errors import ProviderUnavailableError
from broker.core.secret import Secret

CANARY = "canary-8c1e"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Logged(io.StringIO):
    """A stream whose lines can be read back."""

    def lines(self) -> list[dict[str, object]]:
        """Return each line as the JSON object it is."""
        return [json.loads(line) for line in self.getvalue().splitlines()]


def logging_at(level: str) -> Logged:
    """Configure logging into a new stream."""
    stream = Logged()
    configure_logs(level, stream)
    return stream


def test_our_own_event() -> None:
    """An event is its name and bound fields, with time, level and logger."""
    logged = logging_at("info")
    structlog.get_logger("broker.rpc").info("rpc_done", method="/a/B", count=3, ok=True, nothing=None)
    (line,) = logged.lines()
    assert datetime.fromisoformat(str(line.pop("time"))).tzinfo == UTC
    expected = {"event": "rpc_done", "level": "info", "logger": "broker.rpc"}
    assert expected | {"method": "/a/B", "count": 3, "ok": True, "nothing": None} == line


def test_context_is_bound() -> None:
    """What is bound to the context stands in each event."""
    logged = logging_at("info")
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("broker").info("x")
    assert ["r1"] == [line["request_id"] for line in logged.lines()]


def test_a_librarys_record_takes_the_same_way() -> None:
    """Records of the standard library are JSON lines too."""
    logged = logging_at("info")
    logging.getLogger("psycopg.pool").warning("lost %s", "connection")
    (line,) = logged.lines()
    assert ("lost connection", "warning", "psycopg.pool") == (line["event"], line["level"], line["logger"])


def test_warnings_are_logged() -> None:
    """A Python warning is a line like any other."""
    logged = logging_at("info")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    assert ["py.warnings"] == [line["logger"] for line in logged.lines()]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_holds_for_us(level: str, expected: list[str]) -> None:
    """Our own events follow the level."""
    logged = logging_at(level)
    log = structlog.get_logger("broker.x")
    for name in ("debug", "info", "warning", "error"):
        log.log(logging.getLevelName(name.upper()), "x")
    assert expected == [line["level"] for line in logged.lines()]


@pytest.mark.parametrize("name", [*QUIET, "uvicorn.access", "sqlalchemy.engine.Engine", "httpx2.client"])
def test_talkative_libraries_are_quiet_whatever_the_level(name: str) -> None:
    """Libraries that tell of addresses, headers and parameters stay at WARNING, their own handlers gone."""
    own = io.StringIO()
    logger = logging.getLogger(name)
    logger.addHandler(logging.StreamHandler(own))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logged = logging_at("debug")
    logger.debug("GET https://id.example?code=1")
    logger.info("GET https://id.example?code=1")
    logger.warning("heard")
    assert (["heard"], "") == ([line["event"] for line in logged.lines()], own.getvalue())


def test_libraries_are_no_louder_than_we_are() -> None:
    """At ERROR a library's warning is not logged either."""
    logged = logging_at("error")
    logging.getLogger("uvicorn.error").warning("x")
    assert [] == logged.lines()


def fail(secret: str) -> None:
    """Raise an exception whose text and frames hold a secret, as libraries do."""
    header = f"Bearer {secret}"
    raise ValueError(f"Illegal header value {header!r}")


def test_an_exception_tells_types_and_frames_alone() -> None:
    """Neither locals nor the text a library made of what it was given get into a line; the whole chain does."""
    logged = logging_at("info")
    try:
        try:
            fail(CANARY)
        except ValueError as error:
            raise ProviderUnavailableError("try later", cause="timeout") from error
    except ProviderUnavailableError:
        structlog.get_logger("broker").exception("redeem_failed")
    (line,) = logged.lines()
    first, second = line["exceptions"]  # type: ignore[misc]
    assert ("builtins.ValueError", "fail") == (first["type"], first["frames"][-1].split()[-1])  # type: ignore[has-type]
    assert ("PROVIDER_UNAVAILABLE", "timeout") == (second["reason"], second["cause"])  # type: ignore[has-type]
    assert CANARY not in logged.getvalue()


def test_an_exception_of_a_library_is_told_alike() -> None:
    """A record of the standard library with an exception holds no more of it."""
    logged = logging_at("info")
    try:
        fail(CANARY)
    except ValueError:
        logging.getLogger("grpc").exception("handler failed")
    (line,) = logged.lines()
    assert ("handler failed", 1, False) == (
        line["event"],
        len(line["exceptions"]),  # type: ignore[arg-type]
        CANARY in logged.getvalue(),
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(98, CANARY), {"type": "builtins.OSError", "frames": [], "errno": 98}),
        (OSError(CANARY), {"type": "builtins.OSError", "frames": []}),
        (
            ExceptionGroup(CANARY, [ValueError(CANARY)]),
            {
                "type": "builtins.ExceptionGroup",
                "frames": [],
                "group": [{"type": "builtins.ValueError", "frames": []}],
            },
        ),
    ],
)
def test_an_exception_as_a_value(error: Exception, told: dict[str, object]) -> None:
    """Of the operating system's errors the number is told, of a group its members."""
    logged = logging_at("info")
    structlog.get_logger("broker").error("x", exc_info=error)
    assert [[told]] == [line["exceptions"] for line in logged.lines()]


def test_a_chain_that_bites_its_tail_ends() -> None:
    """An exception that is its own cause is told once."""
    logged = logging_at("info")
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    structlog.get_logger("broker").error("x", exc_info=first)
    assert [2] == [len(line["exceptions"]) for line in logged.lines()]  # type: ignore[arg-type]


def test_no_exception_at_hand() -> None:
    """Asking for an exception where none is under way adds nothing."""
    logged = logging_at("info")
    structlog.get_logger("broker").error("x", exc_info=True)
    assert [False] == ["exceptions" in line for line in logged.lines()]


async def test_asyncio_does_not_print_exceptions_of_tasks() -> None:
    """A task that failed unheard is reported without the text of its exception."""
    logged = logging_at("info")
    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "exception": ValueError(CANARY), "future": CANARY}
    )
    (line,) = logged.lines()
    assert ("Task exception was never retrieved", False) == (line["event"], CANARY in logged.getvalue())


class Message:
    """Stands for a message whose repr shows its fields."""

    def __repr__(self) -> str:
        """Show all."""
        return f"access_token: {CANARY}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Secret(CANARY), "[secret]"),
        ([Secret(CANARY)], ["[secret]"]),
        ({"deep": {"er": (Secret(CANARY), 1.5)}}, {"deep": {"er": ["[secret]", 1.5]}}),
        (Message(), "<Message>"),
        ({Message(): 1}, {"<Message>": 1}),
        (CANARY.encode(), "<bytes>"),
        (ValueError(CANARY), "<ValueError>"),
        (Path("/srv/x"), "/srv/x"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (frozenset({"read"}), ["read"]),
    ],
)
def test_only_plain_values_are_shown(value: object, expected: object) -> None:
    """A secret, a message, bytes, an exception: of what is no plain value only the type is told."""
    logged = logging_at("info")
    structlog.get_logger("broker").info("x", value=value)
    assert [expected] == [line["value"] for line in logged.lines()]
    assert CANARY not in logged.getvalue()


def test_a_secret_in_a_librarys_record() -> None:
    """Formatting a secret into a text shows nothing of it."""
    logged = logging_at("info")
    logging.getLogger("x").warning("token %s %r", Secret(CANARY), Secret(CANARY))
    assert ["token [secret] Secret([secret])"] == [line["event"] for line in logged.lines()]


def test_endless_nesting_ends() -> None:
    """A value that holds itself does not hang the log."""
    logged = logging_at("info")
    endless: list[object] = []
    endless.append(endless)
    structlog.get_logger("broker").info("x", value=endless)
    assert "<deeper>" in logged.getvalue()


@pytest.mark.parametrize("hostile", ["a\nb", "\x1b[2J", "\u202eevil", "\x85", "\x7f"])
def test_nothing_steers_who_reads(hostile: str) -> None:
    """Control characters and bidi marks are escaped in events, fields and names of fields, also once decoded."""
    logged = logging_at("info")
    structlog.get_logger("broker").info(hostile, value=hostile, **{hostile: 1})
    logging.getLogger("x").warning("%s", hostile)
    assert 2 == len(logged.getvalue().splitlines())
    assert not any(hostile in text for line in logged.lines() for text in (*line, str(line["event"]), str(line)))
    assert all(char.isprintable() and char.isascii() for char in logged.getvalue().replace("\n", ""))
