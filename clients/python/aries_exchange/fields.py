"""Reads the fields of replies; one that should be there and is not raises ValueError."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Body = Mapping[str, Any]


def text(body: Body, name: str) -> str:
    """Return a text that must be there; a number counts as one, as ids are either."""
    value = optional_text(body, name)
    if not value:
        raise ValueError(f"{name} is missing")
    return value


def optional_text(body: Body, name: str) -> str:
    """Return a text, empty where there is none."""
    value = body.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def optional_amount(body: Body, name: str) -> float | None:
    """Return a decimal string, or a number, as a number; None where there is none."""
    value = body.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is no amount")  # noqa: TRY004 - one error for every wrong reply
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} is no amount")
    return number


def amount(body: Body, name: str) -> float:
    """Return a decimal string that must be there as a number."""
    number = optional_amount(body, name)
    if number is None:
        raise ValueError(f"{name} is missing")
    return number


def truth(body: Body, name: str) -> bool:
    """Tell whether a field is true; one that is missing is not."""
    return body.get(name) is True


def items(body: Body, name: str) -> list[Body]:
    """Return the objects of a list that must be there; null is an empty one."""
    listed = body.get(name, "")
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(item, Mapping) for item in listed):
        raise ValueError(f"{name} is no list of objects")
    return listed


def texts(body: Body, name: str) -> tuple[str, ...]:
    """Return the texts of a list, none where there is no list."""
    listed = body.get(name)
    return tuple(item for item in listed if isinstance(item, str)) if isinstance(listed, list) else ()
