"""The redeem protocol against every order of events around two processes, a database and a provider."""

from __future__ import annotations

from typing import Final

import pytest

from tests.model.ablations import WITHOUT, Ablation
from tests.model.check import check
from tests.model.provider import Mode
from tests.model.world import Budget

BUDGETS: Final = {
    "crash, pause, silence": Budget(redeems=2, crashes=1, lease_ends=1, losses=1),
    "outage, crash": Budget(redeems=1, crashes=1, outages=1, lease_ends=1),
    "revoke": Budget(redeems=1, crashes=1, lease_ends=1, revokes=1),
    "new consent": Budget(redeems=1, losses=1, lease_ends=1, consents=1),
    "unread": Budget(redeems=3, losses=1, unread=1),
}
"""What `make test` has time for; `make model` goes further."""


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("mode", Mode)
def test_no_grant_is_burned_lost_leaked_or_stuck(mode: Mode, budget: Budget) -> None:
    """Whatever happens in whatever order, no rule of the protocol is missing."""
    result = check(mode, budget)
    assert ({}, True) == (result.violations, result.complete)


@pytest.mark.parametrize("ablation", WITHOUT.values(), ids=WITHOUT)
def test_each_rule_is_needed(ablation: Ablation) -> None:
    """Without the rule the checker finds the loss it prevents; with it, it finds none in the same worlds."""
    lost = check(ablation.mode, ablation.budget, ablation.rules, after=ablation.after, stop=True)
    assert ablation.breaks in lost.violations
    whole = check(ablation.mode, ablation.budget, after=ablation.after, most=lost.worlds)
    assert {} == whole.violations
