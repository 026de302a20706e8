"""How a failed command says so: one clear sentence on stderr, the reason in brackets, never a traceback."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import typer
from typer.exceptions import TyperException

from aries_broker import BrokerError, ConfigurationError
from broker.core.errors import BrokerError as RefusalError
from broker.core.visible import escape

_FOREIGN: Final = re.compile(r"[\udc80-\udcff]")
"""How Python reads a byte from outside that is not UTF-8."""


class CommandError(Exception):
    """A command cannot do what was asked; the text says why, for people, and `fields` what is wrong where."""

    def __init__(self, message: str, exit_code: int = 1, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.fields = dict(fields or {})


def name_file(file: Path, problems: Iterable[object]) -> str:
    """Return what is wrong with a file, a problem a line, each behind the file's name."""
    return "\n".join(f"{file}: {problem}" for problem in problems)


def describe(error: BaseException) -> str:
    """Return what to tell a person about an error, in one or a few lines without control characters."""
    match error:
        case BrokerError():
            return _describe_call(error)
        case RefusalError():
            cause = f" ({error.cause})" if error.cause else ""
            return "\n".join(
                [
                    escape(f"{error.public}{cause} [{error.reason}]"),
                    *(escape(f"  {field}: {wrong}") for field, wrong in error.fields.items()),
                ]
            )
        case _ if type(error).__module__.startswith(("broker.", "aries_broker.")):
            # An error of ours says what is wrong; another's may quote a secret.
            return "\n".join(map(escape, str(error).split("\n")))
        case UnicodeEncodeError() if _FOREIGN.fullmatch(error.object[error.start : error.start + 1]):
            return "what was given, as an argument or by the environment, is not text in UTF-8"
        case OSError():
            named = error.filename is not None
            return escape(f"{error.filename}: {error.strerror}" if named else error.strerror or str(error))
        case _:
            return _describe_bug(error)


def to_dict(error: BaseException) -> dict[str, object]:
    """Return what programs are told about an error: always the same fields, empty where there is nothing to tell."""
    told: dict[str, object] = {"reason": "", "status": "", "metadata": {}, "fields": {}, "retry_after": None}
    match error:
        case BrokerError():
            told |= {"reason": error.reason, "status": error.status.name, "message": str(error)}
        case RefusalError():
            told |= {"reason": error.reason.value, "message": error.public}
        case TyperException():
            told |= {"message": error.format_message()}
        case typer.Abort():
            told |= {"message": "aborted"}
        case CommandError():
            told |= {"message": describe(error), "fields": error.fields}
        case _:
            told |= {"message": describe(error)}
    if isinstance(error, BrokerError | RefusalError):
        told |= {"metadata": dict(error.metadata), "fields": dict(error.fields), "retry_after": error.retry_after}
    return {"error": told}


def exit_code_of(error: BaseException) -> int:
    """Return how the process ends: 1 failed, 2 asked for wrongly."""
    match error:
        case CommandError() | TyperException():
            return error.exit_code
        case ConfigurationError():
            return 2
        case _:
            return 1


def _describe_call(error: BrokerError) -> str:
    reason = error.reason or error.status.name
    lines = [escape(f"{error} [{reason}]")]
    lines += [escape(f"  {field}: {wrong}") for field, wrong in error.fields.items()]
    lines += [escape(f"  {key}: {value}") for key, value in error.metadata.items() if value]
    if error.retry_after is not None:
        lines.append(f"  try again in {error.retry_after:.1f} s")
    return "\n".join(lines)


def _describe_bug(error: BaseException) -> str:
    """Name the place without the error's text: that may quote a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"a bug: {type(error).__name__}{place}; please report it"
