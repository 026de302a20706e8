"""Which buckets a call pays: the configured limits turned into charges, and these spent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from broker.core.errors import RateLimitedError
from broker.core.gcra import MICROSECONDS, Charge, Decision, charge
from broker.core.models import Limit, LimitTarget
from broker.ports import Buckets

MAX_ROUNDS: Final = 3
"""How often a call reads its limits anew because they were changed while it was about to pay."""


def charges_for(
    limits: Sequence[Limit], target: LimitTarget, facts: Mapping[str, str], charged_before: Collection[str] = ()
) -> list[Charge]:
    """Return one charge per window of every limit of `target` whose key `facts` answers wholly.

    A limit keyed by something not known yet (the grant, before policy) is not charged now but once it is known; then
    `charged_before` names the facts that were known the first time, so that no limit is charged twice.
    """
    return [
        charge(limit.name, (limit.id, str(number), *(facts[part] for part in limit.key)), window, version=limit.version)
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
    decision = await buckets.spend(charges)
    if not decision.allowed:
        raise _refused(decision)


class Limiter:
    """Spends the configured limits, whatever version of them the buckets are kept under."""

    def __init__(
        self, limits: Callable[[], Sequence[Limit]], catch_up: Callable[[int], Awaitable[None]], buckets: Buckets
    ) -> None:
        """Wire it.

        Args:
            limits: what is configured, as this process knows it.
            catch_up: returns once `limits` are those of a version of the store, or later ones.
            buckets: where they are kept.
        """
        self._limits = limits
        self._catch_up = catch_up
        self._buckets = buckets

    async def spend(self, target: LimitTarget, facts: Mapping[str, str], charged_before: Collection[str] = ()) -> None:
        """Spend what `charges_for` says, or raise.

        Raises:
            RateLimitedError: naming the limit and the seconds to wait.
            StoreUnavailableError: a limit was changed, and cannot be read.
        """
        limit = ""
        for _ in range(MAX_ROUNDS):
            charges = charges_for(self._limits(), target, facts, charged_before)
            if not charges:
                return
            decision = await self._buckets.spend(charges)
            if decision.allowed:
                return
            if not decision.newer_rule:
                raise _refused(decision)
            await self._catch_up(decision.newer_rule)
            limit = decision.limit
        raise _refused(Decision(allowed=False, limit=limit, retry_after=MICROSECONDS))


def _refused(decision: Decision) -> RateLimitedError:
    wait = None if decision.retry_after is None else decision.retry_after / MICROSECONDS
    return RateLimitedError(
        "the limit is used up; come back after the retry delay",
        metadata={"limit": decision.limit},
        retry_after=wait,
    )
