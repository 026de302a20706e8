"""Which denials are recorded in full, and which counted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import denials
from broker.core.audit import Action, AuditEvent
from broker.core.denials import DenialTally


def _event(peer: str) -> AuditEvent:
    return AuditEvent(datetime(2030, 1, 1, tzinfo=UTC), Action.TOKEN_DENY, peer=peer, request_id="r", reason="X")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=60), st.integers(1, 5))
def test_every_denial_is_recorded_or_counted(denied: list[tuple[str, float]], in_full: int) -> None:
    """Full records and counts together are the number of denials; per origin and minute at most so many are full."""
    tally = DenialTally(in_full)
    full: list[str] = []
    counted = 0
    now = 0.0
    for origin, later in denied:
        now += later
        counted += sum(event.count for event in tally.due(now))
        if tally.admit(origin, _event(origin), now):
            full.append(origin)
    counted += sum(event.count for event in tally.flush())
    assert len(denied) == len(full) + counted
    assert [] == list(tally.flush())


def test_a_counted_event_names_no_single_request() -> None:
    """The rest of a minute is one event with its count, its peer, and no request id."""
    tally = DenialTally(1)
    assert [True, False, False] == [tally.admit("a", _event("a"), float(second)) for second in range(3)]
    assert [] == list(tally.due(59.9))
    assert [(2, "a", "")] == [(event.count, event.peer, event.request_id) for event in tally.due(60.0)]


def test_origins_past_the_bound_share_one_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many addresses cannot fill the memory; their count names none of them."""
    monkeypatch.setattr(denials, "MAX_ORIGINS", 2)
    tally = DenialTally(10)
    assert [True, True, False, False, True] == [tally.admit(origin, _event(origin), 0.0) for origin in "abcda"]
    assert [(2, "")] == [(event.count, event.peer) for event in tally.flush()]
