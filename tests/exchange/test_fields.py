"""Fields of replies: what is read, and what is not taken for something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aries_exchange import fields

NOTHING = "nothing"


def _shown(value: object) -> str:
    """Return what a case is called; every process that collects it says the same."""
    return str(getattr(value, "__name__", value))


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (fields.text, "a", "a"),
        (fields.text, 7, "7"),
        (fields.optional_text, NOTHING, ""),
        (fields.optional_text, None, ""),
        (fields.optional_text, True, ""),
        (fields.optional_text, ["a"], ""),
        (fields.amount, "150.25", 150.25),
        (fields.amount, 7, 7.0),
        (fields.amount, "-3.5", -3.5),
        (fields.optional_amount, NOTHING, None),
        (fields.optional_amount, None, None),
        (fields.optional_amount, "", None),
        (fields.truth, True, True),
        (fields.truth, "true", False),
        (fields.truth, NOTHING, False),
        (fields.items, None, []),
        (fields.items, [{"a": 1}], [{"a": 1}]),
        (fields.texts, ["a", 1, "b"], ("a", "b")),
        (fields.texts, "ab", ()),
    ],
    ids=_shown,
)
def test_what_is_there_is_read(read: Callable[[fields.Body, str], object], value: object, expected: object) -> None:
    """Ids may be numbers, amounts are decimal strings, and what may be left out is empty."""
    body = {} if value is NOTHING else {"field": value}

    assert expected == read(body, "field")


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (fields.text, NOTHING),
        (fields.text, ""),
        (fields.text, None),
        (fields.amount, NOTHING),
        (fields.amount, ""),
        (fields.amount, "much"),
        (fields.amount, "nan"),
        (fields.amount, "inf"),
        (fields.amount, True),
        (fields.amount, ["1"]),
        (fields.items, NOTHING),
        (fields.items, {"a": 1}),
        (fields.items, ["a"]),
    ],
    ids=_shown,
)
def test_what_must_be_there_is_missed(read: Callable[[fields.Body, str], object], value: object) -> None:
    """A number that is none would be traded on."""
    body = {} if value is NOTHING else {"field": value}
    with pytest.raises(ValueError, match=r"field is missing|is no amount|could not convert|is no list"):
        read(body, "field")
