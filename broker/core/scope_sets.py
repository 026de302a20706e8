"""How many different scope sets of one grant may be alive at a time, and how many of them one caller may bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.core.errors import ScopeSetsError

MAX_OF_GRANT: Final = 8
"""Live sets of a grant: each is renewed on its own, so more is somebody varying them without end."""

MAX_OF_CALLER: Final = 4
"""Those first asked for by one caller: half, so that nobody takes all that others need."""


def check_one_more(others: Sequence[str], asked_by: str) -> None:
    """Return when one more set may come to life.

    Args:
        others: who first asked for each of the other live sets of the grant, as printed caller ids.
        asked_by: who asks for this one.

    Raises:
        ScopeSetsError: it may not.
    """
    if len(others) >= MAX_OF_GRANT:
        raise ScopeSetsError(
            "too many different scope sets of this grant are in use", metadata={"maximum": str(MAX_OF_GRANT)}
        )
    if sum(other == asked_by for other in others) >= MAX_OF_CALLER:
        raise ScopeSetsError(
            "too many different scope sets of this grant are in use by this caller",
            metadata={"maximum": str(MAX_OF_CALLER)},
        )
