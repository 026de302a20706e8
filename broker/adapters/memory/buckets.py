"""Rate limit buckets of one process, bounded in number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from broker.core import gcra

CAPACITY: Final = 65_536
"""Most buckets kept of one limit."""
_SWEEP: Final = 16


class MemoryBuckets:
    """Port `Buckets` over a dict per limit, in order of use.

    A bucket whose TAT has passed is as good as none and is forgotten when room is needed. If more than `capacity`
    buckets of one limit are in debt at once, the least recently used one is forgotten too and starts afresh: who floods
    one limit with keys can weaken that limit, never another, and the memory stays bounded.
    """

    def __init__(self, now: Callable[[], int], capacity: int = CAPACITY) -> None:
        """Begin with no buckets.

        Args:
            now: microseconds of a clock that never steps, positive.
            capacity: most buckets of one limit.
        """
        self._now = now
        self._capacity = capacity
        self._limits: dict[str, OrderedDict[tuple[str, ...], int]] = {}

    async def spend(self, charges: Sequence[gcra.Charge]) -> gcra.Decision:
        """Spend every charge, or none; never waits."""
        now = self._now()
        tats = {charge.bucket: self._of(charge.bucket).get(charge.bucket, 0) for charge in charges}
        decision, advanced = gcra.spend(tats, charges, now)
        for bucket, tat in advanced.items():
            self._put(bucket, tat, now)
        return decision

    def __len__(self) -> int:
        """Return how many buckets are kept."""
        return sum(len(buckets) for buckets in self._limits.values())

    def _of(self, bucket: tuple[str, ...]) -> OrderedDict[tuple[str, ...], int]:
        """Return the buckets of the same limit: a bucket's first part is its limit's id."""
        return self._limits.setdefault(bucket[0], OrderedDict())

    def _put(self, bucket: tuple[str, ...], tat: int, now: int) -> None:
        buckets = self._of(bucket)
        if bucket not in buckets and len(buckets) >= self._capacity:
            self._make_room(buckets, now)
        buckets[bucket] = tat
        buckets.move_to_end(bucket)

    def _make_room(self, buckets: OrderedDict[tuple[str, ...], int], now: int) -> None:
        """Forget idle buckets among those used longest ago; failing that, the very oldest."""
        oldest = [bucket for bucket, _ in zip(buckets, range(_SWEEP), strict=False)]
        idle = [bucket for bucket in oldest if buckets[bucket] <= now]
        for bucket in idle or oldest[:1]:
            del buckets[bucket]
