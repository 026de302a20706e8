"""Whether a request that failed may be sent again by itself, and when."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Final, TypeVar

from aries_exchange.errors import AriesAPIError, AriesConnectionError
from aries_exchange.timing import Timing

T = TypeVar("T")

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

    def after(self, failure: AriesAPIError) -> bool:
        """Tell whether it may be sent again after it failed so."""
        if isinstance(failure, AriesConnectionError):
            return self is Repeat.READ or (self is Repeat.UNSENT and not failure.sent)
        if self is Repeat.READ:
            return failure.status_code in _PASSING
        return self is Repeat.UNSENT and failure.status_code == _TOO_MANY


def repeated(call: Callable[[], T], repeat: Repeat, timing: Timing) -> T:
    """Return what the call returns; where it fails it is made again, after a wait, as far as that is allowed.

    Raises:
        AriesAPIError: how it failed last.
    """
    waited = 0.0
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return call()
        except AriesAPIError as error:
            failure = error
        wait = wait_before(attempt, parse_retry_after(failure.headers, timing.wall()), timing.chance())
        waited += wait
        if attempt == MAX_ATTEMPTS or waited > MAX_WAIT or not repeat.after(failure):
            raise failure
        timing.sleep(wait)
    raise AssertionError  # the last attempt returned or raised


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
