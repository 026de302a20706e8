"""The generic cell rate algorithm: a bucket is one number, the theoretical arrival time (TAT).

A window of `rate` per second and `burst` has emission interval T = 1/rate and tolerance τ = T · burst. A request of
cost n at time t is admitted when max(TAT, t) + n·T ≤ t + τ, and then TAT becomes that left side: in any span of length
d at most rate·d + burst are admitted. All times are integer microseconds of one clock.

A clock that steps back makes `TAT` lie far in the future; it is first cut to t + τ (the bucket is full, for one
burst's time), so that a step neither grants credit nor denies for an hour.

Rules change while buckets are in use, and replicas learn of it one after another. A bucket knows the version of the
rule it was last spent under: a charge of an older one spends nothing, one of a newer one counts what was used anew, as
so many of its own intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.core.models import Window

MICROSECONDS = 1_000_000


Bucket = tuple[str, ...]
"""A bucket's whole key."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request wants of one bucket.

    Attributes:
        limit: the rule's name, told to the caller when it refuses.
        bucket: the bucket's whole key: limit id, window number and the values of the rule's key.
        emission_interval: microseconds per unit; tolerance: microseconds of burst.
        cost: units; at least 1. A cost above the burst can never be admitted.
        version: of the rule, which grows whenever that changes.
    """

    limit: str
    bucket: Bucket
    emission_interval: int
    tolerance: int
    cost: int = 1
    version: int = 0

    @property
    def debt(self) -> int:
        """Microseconds by which it moves the TAT."""
        return self.cost * self.emission_interval


class BucketState(NamedTuple):
    """What is kept of a bucket: its TAT, and the emission interval and version of the rule it was spent under."""

    tat: int
    emission_interval: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed, or refused by `limit` with microseconds to wait; `retry_after` None means never.

    Attributes:
        newer_rule: not 0 where the bucket is kept under a newer version of the rule, this one: read the rule anew.
    """

    allowed: bool
    limit: str = ""
    retry_after: int | None = 0
    newer_rule: int = 0


ALLOWED = Decision(allowed=True)


def charge(limit: str, bucket: Bucket, window: Window, cost: int = 1, version: int = 0) -> Charge:
    """Build the charge of `cost` units on a window's bucket.

    The emission interval is rounded up to whole microseconds, so that the rate is never exceeded.

    Raises:
        ValueError: when cost is not positive: a caller of ours passed nonsense.
    """
    if cost < 1:
        msg = f"a charge costs at least 1, not {cost}"
        raise ValueError(msg)
    interval = math.ceil(MICROSECONDS / window.rate)
    return Charge(limit, bucket, interval, interval * window.burst, cost, version)


def spend(
    states: Mapping[Bucket, BucketState], charges: Sequence[Charge], now: int
) -> tuple[Decision, dict[Bucket, BucketState]]:
    """Decide a request all-or-nothing; return the strictest decision and the states to store.

    Those are the buckets as spent, or, where it is refused, only those that came under a newer rule or were cut since
    the clock had stepped back.

    Args:
        states: what is stored of buckets; one not in it is empty.
        charges: what the request wants; the same bucket may appear more than once.
        now: microseconds.
    """
    never = beyond_burst(charges)
    if never is not None:
        return never, {}
    spent: dict[Bucket, BucketState] = {}
    moved: dict[Bucket, BucketState] = {}
    refusals: list[Decision] = []
    for wanted in charges:
        stored = states.get(wanted.bucket)
        if stored is not None and wanted.version < stored.version:
            refusals.append(Decision(allowed=False, limit=wanted.limit, newer_rule=stored.version))
            continue
        state = spent.get(wanted.bucket)
        if state is None:
            state = under_rule(stored, wanted, now)
            if stored is not None and stored != state:
                moved[wanted.bucket] = state
        spent[wanted.bucket] = after = state._replace(tat=max(state.tat, now) + wanted.debt)
        if after.tat > now + wanted.tolerance:
            refusals.append(Decision(allowed=False, limit=wanted.limit, retry_after=after.tat - wanted.tolerance - now))
    return (strictest(refusals), moved) if refusals else (ALLOWED, spent)


def under_rule(stored: BucketState | None, wanted: Charge, now: int) -> BucketState:
    """Return a bucket as the charge's rule keeps it, before the charge: what was used of it stays used."""
    if stored is None:
        return BucketState(0, wanted.emission_interval, wanted.version)
    tat = stored.tat
    if stored.emission_interval != wanted.emission_interval and tat > now:
        tat = now - (now - tat) * wanted.emission_interval // stored.emission_interval  # rounds up
    return BucketState(min(tat, now + wanted.tolerance), wanted.emission_interval, wanted.version)


def beyond_burst(charges: Iterable[Charge]) -> Decision | None:
    """Return the refusal of a request that wants more of a bucket than its burst, which no waiting helps."""
    wanted_of: dict[Bucket, int] = {}
    for wanted in charges:
        debt = wanted_of[wanted.bucket] = wanted_of.get(wanted.bucket, 0) + wanted.debt
        if debt > wanted.tolerance:
            return Decision(allowed=False, limit=wanted.limit, retry_after=None)
    return None


def strictest(refusals: Iterable[Decision]) -> Decision:
    """Return the refusal that holds longest; one by a newer rule above all, since that rule is to be asked."""
    return max(refusals, key=lambda decision: (decision.newer_rule, decision.retry_after or 0))
