from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from broker.core.errors import RateLimitedError
from broker.core.gcra import ALLOWED, Charge, Decision
from broker.core.models import Limit, LimitTarget, Origin, Window
from broker.flows.limits import MAX_ROUNDS, Limiter, charges_for, spend

LIMITS = [
    Limit("1", "per-caller", Origin.FILE, LimitTarget.GET_TOKEN, ("caller",), (Window(Fraction(50), 100),)),
    Limit(
        "2",
        "per-grant",
        Origin.FILE,
        LimitTarget.GET_TOKEN,
        ("caller", "grant"),
        (Window(Fraction(10), 20), Window(Fraction(5), 300)),
    ),
    Limit("3", "all", Origin.FILE, LimitTarget.GET_TOKEN, (), (Window(Fraction(1000), 1000),)),
    Limit("4", "aries", Origin.FILE, LimitTarget.PROVIDER, ("provider",), (Window(Fraction(1), 1),)),
]


class Full:
    """A bucket port that refuses."""

    async def spend(self, charges: list[Charge]) -> Decision:
        return Decision(allowed=False, limit=charges[0].limit, retry_after=1_500_000)


def test_before_policy_only_limits_of_known_facts_are_charged() -> None:
    """What is keyed by the grant waits until the grant is known."""
    charges = charges_for(LIMITS, LimitTarget.GET_TOKEN, {"caller": "key:a"})
    assert [("1", "0", "key:a"), ("3", "0")] == [charge.bucket for charge in charges]


def test_after_policy_the_rest_is_charged_once() -> None:
    """No limit is charged twice; every window of one is charged."""
    facts = {"caller": "key:a", "grant": "desk", "client": "c", "provider": "p"}
    charges = charges_for(LIMITS, LimitTarget.GET_TOKEN, facts, charged_before=("caller",))
    assert [("2", "0", "key:a", "desk"), ("2", "1", "key:a", "desk")] == [charge.bucket for charge in charges]


async def test_refusal_names_the_limit_and_the_wait() -> None:
    """A used-up limit is told by name with the seconds to wait."""
    with pytest.raises(RateLimitedError) as caught:
        await spend(Full(), charges_for(LIMITS, LimitTarget.PROVIDER, {"provider": "p"}))  # type: ignore[arg-type]  # a fake of one method
    assert {"limit": "aries"} == caught.value.metadata
    assert caught.value.retry_after == 1.5


class Newer:
    """A bucket port whose buckets are kept under a version of the rule, and which allows a charge of that."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.charged: list[int] = []

    async def spend(self, charges: Sequence[Charge]) -> Decision:
        self.charged += [charge.version for charge in charges]
        older = any(charge.version < self.version for charge in charges)
        return Decision(allowed=False, limit="per-caller", newer_rule=self.version) if older else ALLOWED


async def test_an_older_rule_is_read_anew_and_spent_again() -> None:
    """Who learns that a bucket is under a newer rule catches up with that version and pays by it."""
    limits, buckets = [replace(LIMITS[0], version=5)], Newer(8)
    caught_up = []

    async def catch_up(version: int) -> None:
        caught_up.append(version)
        limits[0] = replace(limits[0], version=version)

    await Limiter(lambda: limits, catch_up, buckets).spend(LimitTarget.GET_TOKEN, {"caller": "key:a"})
    assert ([8], [5, 8]) == (caught_up, buckets.charged)


async def test_a_limit_that_is_gone_is_not_charged_again() -> None:
    """A limit that the newer version of the configuration no longer has refuses nobody."""
    limits, buckets = [LIMITS[0]], Newer(8)

    async def catch_up(version: int) -> None:
        limits.clear()

    await Limiter(lambda: limits, catch_up, buckets).spend(LimitTarget.GET_TOKEN, {"caller": "key:a"})
    assert [0] == buckets.charged


async def test_a_rule_that_never_comes_refuses() -> None:
    """After a few rounds the call is told to come back, by the limit's name."""
    buckets = Newer(8)

    async def catch_up(version: int) -> None:
        """Find nothing newer."""

    with pytest.raises(RateLimitedError) as caught:
        await Limiter(lambda: LIMITS, catch_up, buckets).spend(LimitTarget.PROVIDER, {"provider": "p"})
    assert {"limit": "per-caller"} == caught.value.metadata
    assert (1.0, MAX_ROUNDS) == (caught.value.retry_after, len(buckets.charged))
