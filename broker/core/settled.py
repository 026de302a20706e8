"""When it is settled that nothing will come of a send any more: the condition of the one step that can burn a family.

A probe sends a token whose fate nobody knows. It is a reuse if the provider did take the earlier send, and costs the
grant if the successor is still under way to us: in the memory of its owner, in a journal, or in the request itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.core.grant_state import GrantState, OpenSend, RedeemTimes


@dataclass(frozen=True, slots=True)
class Replica:
    """One broker process as the store knows it; times in milliseconds of the store's clock.

    Attributes:
        owner: the process; a new start is a new owner.
        volume: the data volume its journal lies on.
        beat_at: when it last said that it lives.
        drained_at: when it last found its journal empty, None before the first time.
    """

    owner: str
    volume: str
    beat_at: int
    drained_at: int | None = None


def settled(state: GrantState, replicas: Iterable[Replica], now: int, times: RedeemTimes) -> bool:
    """Tell whether nothing will come any more of any send of the grant.

    Two minutes after the last send, and of each open send: its owner has been silent for long, and its journal was
    found empty since, or was waited for long enough, or an operator said that it holds nothing.
    """
    if state.last_sent_at is not None and state.last_sent_at + times.in_flight > now:
        return False
    known = {replica.owner: replica for replica in replicas}
    told = state.settled_at is not None and state.settled_at >= (state.last_sent_at or 0)
    return all(_settled(send, known, told, now, times) for send in state.open_sends)


def _settled(send: OpenSend, known: dict[str, Replica], told: bool, now: int, times: RedeemTimes) -> bool:  # noqa: FBT001 - private
    owner = known.get(send.owner)
    last_seen = send.sent_at if owner is None else max(send.sent_at, owner.beat_at)
    if last_seen + times.silent > now:
        return False
    return told or last_seen + times.journal_lost <= now or (owner is not None and _drained_since(owner, known))


def _drained_since(owner: Replica, known: dict[str, Replica]) -> bool:
    """Tell whether a later process on the same volume found its journal empty after the owner was last seen."""
    return any(
        replica.volume == owner.volume
        and replica.owner != owner.owner
        and replica.drained_at is not None
        and replica.drained_at > owner.beat_at
        for replica in known.values()
    )
