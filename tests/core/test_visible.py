"""Text that is shown steers nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.visible import escape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ASCII", "plain ASCII"),
        ("Größe 株", "Größe 株"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x7f\x85", "\\x7f\\x85"),
        ("safe\u202egnp.exe", "safe\\u202egnp.exe"),
        ("\u2066a\u2069\u200f\ufeff", "\\u2066a\\u2069\\u200f\\ufeff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800", "\\ud800"),
        ("\U000e0041\u00a0", "\\U000e0041\\xa0"),
    ],
)
def test_escape(text: str, expected: str) -> None:
    """Control characters, bidi marks, separators and half characters are written out; letters stay."""
    assert expected == escape(text)


@given(st.text())
def test_nothing_hidden_is_left(text: str) -> None:
    """Whatever goes in, what comes out is made of characters that show themselves."""
    shown = escape(text).replace(" ", "")
    assert not [char for char in shown if unicodedata.category(char)[0] == "C" or char.isspace()]
