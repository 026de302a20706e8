"""A secret has no printable form."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import pytest

from broker.core.secret import Secret, text_problem

CANARY = "canary-1f9d"


@pytest.mark.parametrize(
    "shown",
    [
        str(Secret(CANARY)),
        repr(Secret(CANARY)),
        f"{Secret(CANARY)}",
        f"{Secret(CANARY)!r:>40}",
        f"{Secret(CANARY):>40}",
        "%s" % Secret(CANARY),  # noqa: UP031 - the old way too
        str([Secret(CANARY)]),
        str({"secret": Secret(CANARY)}),
        json.dumps({"secret": Secret(CANARY)}, default=str),
        str(dir(Secret(CANARY))),
        logging.LogRecord("x", 1, "x", 1, "%s", (Secret(CANARY),), None).getMessage(),
    ],
)
def test_no_way_of_printing_shows_it(shown: str) -> None:
    """Whoever prints a secret by mistake prints nothing of it."""
    assert CANARY not in shown


def test_reveal() -> None:
    """`reveal` is the way out."""
    assert CANARY == Secret(CANARY).reveal()


def test_an_empty_secret_is_refused() -> None:
    """An empty secret is a mistake of ours."""
    with pytest.raises(ValueError, match="must not be empty"):
        Secret("")


@pytest.mark.parametrize("away", [pickle.dumps, copy.copy])
def test_it_cannot_leave_the_process(away: object) -> None:
    """Neither pickling nor shallow copying through the same door works."""
    with pytest.raises(TypeError) as caught:
        away(Secret(CANARY))  # type: ignore[operator]
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_deep_copy_is_the_same_object() -> None:
    """Values that hold a secret can be copied deeply, which does not multiply the secret."""
    secret = Secret(CANARY)
    assert copy.deepcopy({"held": secret})["held"] is secret


@pytest.mark.parametrize(
    ("other", "expected"), [(Secret(CANARY), True), (Secret("other"), False), (Secret("é"), False), (CANARY, False)]
)
def test_equality(other: object, expected: bool) -> None:
    """Secrets are equal by their text, and never equal to a text."""
    assert expected == (Secret(CANARY) == other)


def test_it_is_no_key() -> None:
    """A secret cannot be hashed, so it is no key of a cache."""
    with pytest.raises(TypeError):
        hash(Secret(CANARY))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hunter2", None),
        ("höher ~ \u3042\U0001f511", None),
        ("-----BEGIN\n\tkey\r\n", None),
        ("", "the secret is empty"),
        (" \r\n\t", "the secret is empty"),
        ("hunter2\udcff", "the secret is not text in UTF-8"),
        ("\ufeffhunter2", "the secret begins with a byte order mark"),
        ("hunter\x002", "the secret holds control characters"),
        ("\x1b[200~hunter2", "the secret holds control characters"),
        ("hunter2\x7f", "the secret holds control characters"),
        ("hunter2\x85", "the secret holds control characters"),
    ],
)
def test_what_nobody_meant_is_no_secret(text: str, expected: str | None) -> None:
    """Other encodings and stray keys are told apart from secrets, of which nothing is repeated."""
    assert expected == text_problem(text)
