"""The four scopes of the SDK, and the finer ones that Aries' token endpoint knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

USER: Final = "user:information"
ACCOUNT: Final = "account:information"
POSITION: Final = "position:information"
ORDER: Final = "order:information"
EXECUTION: Final = "order:execution"

SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "read": (ACCOUNT, ORDER, POSITION, USER),
    "trade": (EXECUTION,),
    # No scope of the wire is known to cover these.
    "withdraw": (),
    "admin": (),
}


def build_scope(scopes: Iterable[str]) -> str:
    """Return the `scope` parameter (RFC 6749 section 3.3), in which read and trade are the scopes they stand for.

    A scope that stands for none, such as withdraw, is sent as it is: Aries decides about it, and what was granted
    stands in the reply. To leave it out would look like a consent to it.

    Raises:
        TypeError: one text is given instead of several.
        ValueError: one is empty, or is several in one.
    """
    if isinstance(scopes, str):
        raise TypeError("scope is a list of scopes, not one text")
    wire: list[str] = []
    for scope in scopes:
        if not scope or not scope.isascii() or not scope.isprintable() or " " in scope:
            raise ValueError("a scope is a word, such as read or order:execution")
        wire += SCOPES.get(scope) or (scope,)
    return " ".join(dict.fromkeys(wire))


def product_scope(wire_scope: str) -> str:
    """Return which of the SDK's scopes covers a scope of the wire."""
    return next(product for product, covered in SCOPES.items() if wire_scope in covered)
