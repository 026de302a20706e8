"""What one replica lets through while it is cut off from the shared buckets: its share of every limit.

Its share is the limit divided by the most replicas there may be: the emission interval times so many, the same
tolerance. A bucket starts from what was last known of it. So k replicas cut off admit, in any span of length t and in
addition to those that are not, at most k/max of (rate · t + burst).

What is spent meanwhile is noted at the limit's whole rate, from nothing: the debt that one's own spending left. Put on
the shared buckets at the return, it is what they would hold of it had it been spent there, and never more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from broker.adapters.memory.buckets import CAPACITY, MemoryBuckets
from broker.core.gcra import MICROSECONDS, Bucket, BucketState, Charge, Decision, beyond_burst, under_rule

AWAY: Final = MICROSECONDS
"""What who wants more than the share's burst is told to wait: the store may be back then."""


class Share:
    """This replica's share of every limit; one per process, whatever else is divided into lanes."""

    def __init__(self, replicas: int, now: Callable[[], int]) -> None:
        """Begin with nothing known.

        Args:
            replicas: the most there may be.
            now: microseconds of a clock that never steps.
        """
        self._replicas = replicas
        self._now = now
        self._buckets = MemoryBuckets(now)

    def learn(self, charge: Charge, debt: int, version: int) -> None:
        """Note a bucket as the store has it now, `debt` microseconds from empty.

        What was spent of the share stays spent, so that being cut off again and again gives no more of it.
        """
        known = self._buckets.find(charge.bucket)
        state = BucketState(self._now() + debt, charge.emission_interval * self._replicas, version)
        if known is not None and known._replace(tat=state.tat) == state:
            state = max(state, known)
        self._buckets.put(charge.bucket, state)

    def spend(self, charges: Sequence[Charge]) -> Decision:
        """Spend from the share; a cost above the share's burst has to wait for the store."""
        parts = [replace(charge, emission_interval=charge.emission_interval * self._replicas) for charge in charges]
        too_much = beyond_burst(parts)
        if too_much is not None:
            return replace(too_much, retry_after=AWAY)
        return self._buckets.spend_now(parts)


class Debts:
    """What was spent from the share and is owed to the shared buckets."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._owed: dict[Bucket, BucketState] = {}

    def owe(self, charge: Charge) -> None:
        """Note one charge; beyond the bound on buckets it is not noted, which loosens no limit's stated bound."""
        now = self._now()
        if charge.bucket not in self._owed and len(self._owed) >= CAPACITY:
            self._owed = {bucket: state for bucket, state in self._owed.items() if state.tat > now}
            if len(self._owed) >= CAPACITY:
                return
        state = under_rule(self._owed.get(charge.bucket), charge, now)
        self._owed[charge.bucket] = state._replace(tat=max(state.tat, now) + charge.debt)

    def take(self) -> list[tuple[Bucket, BucketState]]:
        """Return what is owed and owe it no more; a state's TAT is counted from now."""
        now = self._now()
        owed, self._owed = self._owed, {}
        return [(bucket, state._replace(tat=state.tat - now)) for bucket, state in owed.items() if state.tat > now]

    def owe_again(self, debts: Iterable[tuple[Bucket, BucketState]]) -> None:
        """Owe once more what was taken and may not have arrived."""
        now = self._now()
        for bucket, debt in debts:
            later = self._owed.get(bucket)
            tat = debt.tat + (now if later is None else max(later.tat, now))
            self._owed[bucket] = debt._replace(tat=tat)

    def __bool__(self) -> bool:
        """Tell whether anything is owed."""
        return bool(self._owed)
