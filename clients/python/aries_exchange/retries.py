"""Whether a request that failed may be sent again by itself, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Final

MAX_ATTEMPTS: Final = 4
MAX_WAIT: Final = 60.0
"""Seconds that one call waits in all; where the server asks for more, the caller is told at once."""
FIRST_WAIT: Final = 0.5
LONGEST_STEP: Final = 8.0
_TOO_MANY: Final = 429
_PASSING: Final = frozenset({_TOO_MANY, 502, 503, 504})
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


class Repeat(Enum):
    """When a request may be sent again.

    READ: after whatever may pass, since to ask twice changes nothing.
    UNSENT: only where it had no effect: no connection was made, or the server took no more requests.
    NEVER: not without the caller's word: an order, a password, a code.
    """

    READ = auto()
    UNSENT = auto()
    NEVER = auto()

    def after_status(self, status_code: int) -> bool:
        """Tell whether it may be sent again after this reply."""
        if self is Repeat.READ:
            return status_code in _PASSING
        return self is Repeat.UNSENT and status_code == _TOO_MANY

    def after_break(self, *, connected: bool) -> bool:
        """Tell whether it may be sent again after a connection that broke, or was never made."""
        return self is Repeat.READ or (self is Repeat.UNSENT and not connected)


def wait_before(attempt: int, retry_after: float | None, chance: float) -> float:
    """Return the seconds to wait before the next attempt.

    Args:
        attempt: how many were made.
        retry_after: seconds the server asked for; never less than that.
        chance: from 0 up to 1.
    """
    step = min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_STEP)
    return max(retry_after or 0.0, step) + chance * step


def parse_retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Return the seconds a reply asks to wait (RFC 9110 section 10.2.3), None where it does not say.

    Args:
        headers: of the reply; a date counts from its own `Date`, so that our clock may be wrong.
        wall: seconds since the epoch, for a reply without a `Date`.
    """
    value = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _parse_date(value)
    if until is None:
        return None
    sent = _parse_date(headers.get("Date", ""))
    return max(0.0, until - (wall if sent is None else sent))


def _parse_date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
