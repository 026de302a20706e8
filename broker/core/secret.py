"""A value that must not be seen: it has no printable form, cannot be pickled and compares in constant time."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

REDACTED: Final = "[secret]"


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
