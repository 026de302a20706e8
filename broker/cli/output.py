"""What commands print: tables for people, JSON for programs, and nothing that could steer a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from broker.core.visible import escape


def print_line(text: str) -> None:
    """Print one line to stdout."""
    sys.stdout.write(escape(text) + "\n")


def print_error(text: str) -> None:
    """Print lines to stderr."""
    for line in text.split("\n"):
        sys.stderr.write(escape(line) + "\n")


def print_json(value: object) -> None:
    """Print a value as JSON in ASCII, so that nothing in it reaches a terminal raw."""
    sys.stdout.write(_to_ascii(json.dumps(value, indent=2)) + "\n")


def print_json_error(value: object) -> None:
    """Print a value as JSON in ASCII to stderr, on one line."""
    sys.stderr.write(_to_ascii(json.dumps(value)) + "\n")


def _to_ascii(text: str) -> str:
    """Escape the one control character that JSON in ASCII leaves as it is."""
    return text.replace("\x7f", "\\u007f")


def to_dict(message: Message) -> dict[str, object]:
    """Return a message as the contract names its fields, those at their default included."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Print rows under the columns named; a row may know more than is shown."""
    from rich.console import Console  # noqa: PLC0415 - a tenth of what every command imports
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    console = Console(markup=False, highlight=False, emoji=False)
    # Where nobody looks, nothing is cut to the width of a screen.
    if not console.is_terminal:
        console.width = 1000
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape(_cell(row.get(column)))) for column in columns))
    console.print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one object, a field a line."""
    for name, value in fields.items():
        print_line(f"{name}: {_cell(value)}")


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(_cell(item) for item in value)
        case dict():
            return " ".join(f"{key}={_cell(item)}" for key, item in value.items())
        case _:
            return str(value)
