"""Which buckets a call pays: the configured limits turned into charges."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from broker.core.errors import RateLimitedError
from broker.core.gcra import MICROSECONDS, Charge, charge
from broker.core.models import Limit, LimitTarget
from broker.ports import Buckets


def charges_for(
    limits: Sequence[Limit], target: LimitTarget, facts: Mapping[str, str], charged_before: Collection[str] = ()
) -> list[Charge]:
    """Return one charge per window of every limit of `target` whose key `facts` answers wholly.

    A limit keyed by something not known yet (the grant, before policy) is not charged now but once it is known; then
    `charged_before` names the facts that were known the first time, so that no limit is charged twice.
    """
    return [
        charge(limit.name, (limit.id, str(number), *(facts[part] for part in limit.key)), window)
        for limit in limits
        if limit.applies_to is target
        and all(part in facts for part in limit.key)
        and not (charged_before and all(part in charged_before for part in limit.key))
        for number, window in enumerate(limit.windows)
    ]


async def spend(buckets: Buckets, charges: Sequence[Charge]) -> None:
    """Spend all charges or raise.

    Raises:
        RateLimitedError: naming the limit and the seconds to wait.
    """
    if not charges:
        return
    decision = await buckets.spend(charges)
    if not decision.allowed:
        wait = None if decision.retry_after is None else decision.retry_after / MICROSECONDS
        raise RateLimitedError(
            "the limit is used up; come back after the retry delay",
            metadata={"limit": decision.limit},
            retry_after=wait,
        )
