"""The rules of the protocol as the model applies them, and weaker ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from broker.core import lease
from broker.core.grant_state import GrantState, RedeemTimes
from broker.core.lease import Adopt, Event, Land, Probe, Replay

Step = Callable[[GrantState, Event, int, RedeemTimes], GrantState | None]
E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Rules:
    """What holds.

    Attributes:
        step: the steps; the core's, or weaker ones.
        probe_waits: a probe waits until everything is settled.
        late_write: a licence may be used after its lease.
        doubt_silence: no usable answer means that nobody knows, not that nothing happened.
        journal: what the database does not take is written into the journal, not given up.
        journal_keeps: an entry stays until the database was seen to have it.
        revoke_late: a token that comes after its grant or consent ended is revoked at the provider.
    """

    step: Step = lease.step
    probe_waits: bool = True
    late_write: bool = False
    doubt_silence: bool = True
    journal: bool = True
    journal_keeps: bool = True
    revoke_late: bool = True


WHOLE: Final = Rules()


def lying(kind: type[E], lie: Callable[[GrantState, E], tuple[GrantState, E]]) -> Step:
    """Return steps of which one kind is shown another grant, or event, than there is: one of its conditions is gone."""

    def step(state: GrantState, event: Event, now: int, times: RedeemTimes) -> GrantState | None:
        if isinstance(event, kind):
            state, event = lie(state, event)
        return lease.step(state, event, now, times)

    return step


def without_adoption(state: GrantState, event: Event, now: int, times: RedeemTimes) -> GrantState | None:
    """Never turn to a token that was not sent, and send again beside it."""
    if isinstance(event, Adopt):
        return None
    if not isinstance(event, Replay | Probe):
        return lease.step(state, event, now, times)
    after = lease.step(replace(state, tokens=()), event, now, times)
    return None if after is None else replace(after, tokens=state.tokens)


def dropping_late_tokens(state: GrantState, event: Event, now: int, times: RedeemTimes) -> GrantState | None:
    """Keep a received token only where it becomes the current one."""
    after = lease.step(state, event, now, times)
    if isinstance(event, Land) and after is not None and after.generation == state.generation:
        return state
    return after


def forgetting_open_sends(state: GrantState, event: Event, now: int, times: RedeemTimes) -> GrantState | None:
    """Wait for nobody any more once some send was answered."""
    after = lease.step(state, event, now, times)
    moved_on = after is not None and after.first_sent_at is None
    return replace(after, open_sends=()) if after is not None and moved_on else after


def doubting_nothing(state: GrantState, event: Event, now: int, times: RedeemTimes) -> GrantState | None:
    """Forget a token that was replaced while nobody knew its fate."""
    after = lease.step(state, event, now, times)
    return after if after is None else replace(after, doubted=None)
