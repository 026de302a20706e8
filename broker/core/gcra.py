"""The generic cell rate algorithm: a bucket is one number, the theoretical arrival time (TAT).

A window of `rate` per second and `burst` has emission interval T = 1/rate and tolerance τ = T · burst. A request of
cost n at time t is admitted when max(TAT, t) + n·T ≤ t + τ, and then TAT becomes that left side: in any span of length
d at most rate·d + burst are admitted. All times are integer microseconds of one clock.

A clock that steps back makes `TAT` lie far in the future; it is first cut to t + τ (the bucket is full, for one
burst's time), so that a step neither grants credit nor denies for an hour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.models import Window

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request wants of one bucket.

    Attributes:
        limit: the rule's name, told to the caller when it refuses.
        bucket: the bucket's whole key: limit id, window number and the values of the rule's key.
        emission_interval: microseconds per unit; tolerance: microseconds of burst.
        cost: units; at least 1. A cost above the burst can never be admitted.
    """

    limit: str
    bucket: tuple[str, ...]
    emission_interval: int
    tolerance: int
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed, or refused by `limit` with microseconds to wait; `retry_after` None means never."""

    allowed: bool
    limit: str = ""
    retry_after: int | None = 0


ALLOWED = Decision(allowed=True)


def charge(limit: str, bucket: tuple[str, ...], window: Window, cost: int = 1) -> Charge:
    """Build the charge of `cost` units on a window's bucket.

    The emission interval is rounded up to whole microseconds, so that the rate is never exceeded.

    Raises:
        ValueError: when cost is not positive: a caller of ours passed nonsense.
    """
    if cost < 1:
        msg = f"a charge costs at least 1, not {cost}"
        raise ValueError(msg)
    interval = math.ceil(MICROSECONDS / window.rate)
    return Charge(limit, bucket, interval, interval * window.burst, cost)


def spend(
    tats: Mapping[tuple[str, ...], int], charges: Sequence[Charge], now: int
) -> tuple[Decision, dict[tuple[str, ...], int]]:
    """Decide a batch all-or-nothing; return the strictest decision and the TATs to store (empty when refused).

    Args:
        tats: stored TAT by bucket; a bucket not in it is empty.
        charges: what the request wants; the same bucket may appear more than once.
        now: microseconds.
    """
    advanced: dict[tuple[str, ...], int] = {}
    refusal: Decision | None = None
    for wanted in charges:
        stored = advanced.get(wanted.bucket, tats.get(wanted.bucket, 0))
        tat = min(stored, now + wanted.tolerance)
        after = max(tat, now) + wanted.cost * wanted.emission_interval
        if after > now + wanted.tolerance:
            refusal = _stricter(refusal, _refuse(wanted, after - wanted.tolerance - now))
        else:
            advanced[wanted.bucket] = after
    return (ALLOWED, advanced) if refusal is None else (refusal, {})


def _refuse(wanted: Charge, wait: int) -> Decision:
    never = wanted.cost * wanted.emission_interval > wanted.tolerance
    return Decision(allowed=False, limit=wanted.limit, retry_after=None if never else wait)


def _stricter(first: Decision | None, second: Decision) -> Decision:
    if first is None or second.retry_after is None:
        return second
    if first.retry_after is None:
        return first
    return max(first, second, key=lambda decision: decision.retry_after or 0)
