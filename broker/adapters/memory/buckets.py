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
        self._limits: dict[str, OrderedDict[gcra.Bucket, gcra.BucketState]] = {}

    async def spend(self, charges: Sequence[gcra.Charge]) -> gcra.Decision:
        """Spend every charge, or none; never waits."""
        return self.spend_now(charges)

    def spend_now(self, charges: Sequence[gcra.Charge]) -> gcra.Decision:
        """Spend every charge, or none."""
        now = self._now()
        states = {}
        for charge in charges:
            state = self.find(charge.bucket)
            if state is not None:
                states[charge.bucket] = state
        decision, moved = gcra.spend(states, charges, now)
        for bucket, state in moved.items():
            self._put(bucket, state, now)
        return decision

    def find(self, bucket: gcra.Bucket) -> gcra.BucketState | None:
        """Return what is kept of a bucket."""
        return self._of(bucket).get(bucket)

    def put(self, bucket: gcra.Bucket, state: gcra.BucketState) -> None:
        """Take a bucket's state for what is known of it, as it was learnt elsewhere."""
        self._put(bucket, state, self._now())

    def __len__(self) -> int:
        """Return how many buckets are kept."""
        return sum(len(buckets) for buckets in self._limits.values())

    def _of(self, bucket: gcra.Bucket) -> OrderedDict[gcra.Bucket, gcra.BucketState]:
        """Return the buckets of the same limit: a bucket's first part is its limit's id."""
        return self._limits.setdefault(bucket[0], OrderedDict())

    def _put(self, bucket: gcra.Bucket, state: gcra.BucketState, now: int) -> None:
        buckets = self._of(bucket)
        if bucket not in buckets and len(buckets) >= self._capacity:
            self._make_room(buckets, now)
        buckets[bucket] = state
        buckets.move_to_end(bucket)

    def _make_room(self, buckets: OrderedDict[gcra.Bucket, gcra.BucketState], now: int) -> None:
        """Forget idle buckets among those used longest ago; failing that, the very oldest."""
        oldest = [bucket for bucket, _ in zip(buckets, range(_SWEEP), strict=False)]
        idle = [bucket for bucket in oldest if buckets[bucket].tat <= now]
        for bucket in idle or oldest[:1]:
            del buckets[bucket]
