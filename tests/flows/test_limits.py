from __future__ import annotations

from fractions import Fraction

import pytest

from broker.core.errors import RateLimitedError
from broker.core.gcra import Charge, Decision
from broker.core.models import Limit, LimitTarget, Origin, Window
from broker.flows.limits import charges_for, spend

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
