"""A value that must not be seen: it has no printable form, cannot be pickled and compares in constant time."""

from __future__ import annotations

import hmac
import re
from typing import Final, NoReturn

REDACTED: Final = "[secret]"
NO_TEXT: Final = "the secret is not text in UTF-8"

MAX_SECRET: Final = 16 * 1024
"""Longest secret taken in, in characters and in bytes; a private key of 8192 bits has half of it."""

_HALVES: Final = re.compile(r"[\ud800-\udfff]")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BYTE_ORDER_MARK: Final = "\ufeff"


def text_problem(text: str) -> str | None:
    """Return why a text somebody entered cannot be a secret, or None; the answer never repeats any of it.

    What no server would take is most often a file of another encoding or a key pressed by mistake. Tabs and line breaks
    are taken: a private key in PEM has them.
    """
    if not text.strip():
        return "the secret is empty"
    if _HALVES.search(text):  # how Python reads bytes that are not UTF-8
        return NO_TEXT
    if text.startswith(_BYTE_ORDER_MARK):
        return "the secret begins with a byte order mark"
    if _CONTROLS.search(text):
        return "the secret holds control characters"
    return None


class Secret:
    """A secret text; `reveal` is the only way out, so that every use can be found by its name.

    Python cannot wipe memory: the type keeps a secret out of logs, errors, reprs and pickles, nothing more.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Hold `value`; it may be empty only by mistake, which is refused.

        Raises:
            ValueError: when `value` is empty.
        """
        if not value:
            msg = "a secret must not be empty"
            raise ValueError(msg)
        self._value = value

    def reveal(self) -> str:
        """Return the secret text; call it only where the text is put on a wire or sealed."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, format_spec: str) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is never a key of a cache

    def __reduce__(self) -> NoReturn:
        msg = "a secret cannot be pickled or copied out of the process"
        raise TypeError(msg)

    def __deepcopy__(self, memo: object) -> Secret:
        return self
