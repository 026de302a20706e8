"""Switches and fields as they come from JSON or YAML: each is what it takes, or is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

Parser = Callable[[Any], object]
MOST_SECONDS = 315_360_000


def parsed_json(text: bytes, **options: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of a JSON text; `options` are those of `json.loads`.

    Raises:
        ValueError: it is none, or nested too deep to be read.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def parsed(fields: Mapping[str, object], parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """Return every field as its parser reads it.

    Raises:
        ValueError: a field is unknown, or its value is not one it takes.
    """
    unknown = sorted(fields.keys() - parsers.keys())
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(parsers)}")
    read = {}
    for name, value in fields.items():
        try:
            read[name] = parsers[name](value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error
    return read


def whole(least: int, most: int) -> Parser:
    """Return a parser of whole numbers."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return parse


def seconds(value: object) -> float:
    """Return a span of time; ten years are more than any needs."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_SECONDS:
        raise ValueError(f"a number of seconds from 0 to {MOST_SECONDS}")
    return float(value)


def truth(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004, one error for every wrong value
    return value


def on_or_off(choices: type[StrEnum]) -> Parser:
    """Return a parser of choices among which are `on` and `off`, words that YAML reads as truth values."""
    return lambda value: choices(("off", "on")[value] if isinstance(value, bool) else value)


def scopes(value: object) -> tuple[str, ...]:
    """Return a list of scopes."""
    if not isinstance(value, list | tuple) or not all(isinstance(scope, str) for scope in value):
        raise ValueError("a list of scopes")
    return tuple(value)


def mapping(value: object) -> Mapping[str, object]:
    """Return an object."""
    if not isinstance(value, Mapping):
        raise ValueError("an object")  # noqa: TRY004, one error for every wrong value
    return dict(value)


def text(value: object) -> str:
    """Return any value as text."""
    return str(value)


def headers(value: object) -> Mapping[str, str]:
    """Return an object of texts."""
    return {name: str(content) for name, content in mapping(value).items()}


def or_none(parse: Parser) -> Parser:
    """Return a parser that also takes null."""
    return lambda value: None if value is None else parse(value)
