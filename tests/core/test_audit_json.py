from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit import Action, AuditEvent, from_json, to_json

TIME = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
text = st.text(max_size=8)


def test_an_event_is_one_line_in_a_stable_order_without_empty_fields() -> None:
    """Fields stand in their declared order; empty ones and a count of 1 are left out."""
    event = AuditEvent(TIME, Action.TOKEN_ISSUE, actor="key:reports", grant="desk", scopes="read")
    assert (
        '{"time":"2026-01-02T03:04:05.000006+00:00","action":"token:issue","actor":"key:reports","grant":"desk",'
        '"scopes":"read"}'
    ) == to_json(event)


@given(
    st.builds(
        AuditEvent,
        time=st.datetimes(timezones=st.just(UTC)),
        action=st.sampled_from(Action),
        actor=text,
        detail=text,
        count=st.integers(1, 99),
    )
)
def test_every_event_comes_back_from_its_json(event: AuditEvent) -> None:
    """Whatever text an event holds, its JSON is one line of ASCII without NUL and reads back equal."""
    line = to_json(event)
    assert (True, False, event) == (line.isascii(), "\n" in line or "\x00" in line, from_json(line))


def test_times_are_utc() -> None:
    """A time in another zone is written in UTC."""
    event = AuditEvent(TIME.astimezone(timezone(timedelta(hours=5))), Action.BROKER_START)
    assert '"time":"2026-01-02T03:04:05.000006+00:00"' in to_json(event)


def test_a_newer_brokers_field_is_left_out() -> None:
    """An event with a field this version does not know still reads."""
    line = '{"time":"2026-01-02T03:04:05.000006+00:00","action":"broker:start","replica":"r1"}'
    assert AuditEvent(TIME, Action.BROKER_START) == from_json(line)


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"time":"x","action":"broker:start"}', '{"time":1,"action":"x"}'])
def test_what_is_no_event_is_refused(line: str) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - of the JSON parser or ours
        from_json(line)
