"""The runs of `make model`, each in a process of its own."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import Final

from tests.model.ablations import WITHOUT
from tests.model.check import Result, check
from tests.model.provider import Mode
from tests.model.world import Budget

FULL: Final = {
    "crash, pauses, silence": Budget(redeems=3, crashes=1, lease_ends=2, losses=1),
    "crashes, outage, silence": Budget(redeems=2, crashes=2, outages=1, lease_ends=1, losses=1),
    "revoke, crash, outage": Budget(redeems=2, crashes=1, outages=1, lease_ends=1, losses=1, revokes=1),
    "new consent, crash": Budget(redeems=2, crashes=1, lease_ends=1, losses=1, consents=1),
    "unread, crash": Budget(redeems=3, crashes=1, lease_ends=1, losses=1, unread=1),
}


@dataclass(frozen=True)
class Run:
    """One run of the checker, and whether it was as it has to be."""

    what: str
    result: Result
    seconds: float
    good: bool


def run_whole(name: str, mode: Mode) -> Run:
    """Look for losses in a provider of this mode."""
    gc.disable()  # nothing here refers to itself, and going over millions of worlds again and again takes half the time
    started = time.monotonic()
    result = check(mode, FULL[name])
    good = result.complete and not result.violations
    return Run(f"{name:28} {mode:12}", result, time.monotonic() - started, good)


def run_without(name: str) -> Run:
    """Look for the loss a rule prevents, without the rule."""
    started, ablation = time.monotonic(), WITHOUT[name]
    result = check(ablation.mode, ablation.budget, ablation.rules, after=ablation.after, stop=True)
    good = ablation.breaks in result.violations
    return Run(f"{name:55} {ablation.mode:10}", result, time.monotonic() - started, good)
