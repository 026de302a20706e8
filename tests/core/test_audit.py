"""The audit event is bounded."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit import MAX_TEXT, Action, AuditEvent

TIME = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("x" * 512, "x" * 512),
        ("x" * 513, "x" * 512),
        ("é" * 257, "é" * 256),
        ("x" + "é" * 256, "x" + "é" * 255),
        ("😀" * 200, "😀" * 128),
    ],
)
def test_a_string_is_cut_on_a_characters_boundary(text: str, expected: str) -> None:
    """512 bytes of UTF-8 are the most, and no half character is left."""
    assert expected == AuditEvent(TIME, Action.TOKEN_DENY, actor=text).bounded().actor


def test_a_bounded_event_is_itself() -> None:
    """An event within bounds is not copied."""
    event = AuditEvent(TIME, Action.TOKEN_ISSUE, actor="key:reports", count=3)
    assert event is event.bounded()


@given(st.text(max_size=700), st.text(max_size=700))
def test_no_field_is_longer(peer: str, detail: str) -> None:
    """Whatever is put in, each field fits, and begins as it did."""
    event = AuditEvent(TIME, Action.RPC_DENY, peer=peer, detail=detail).bounded()
    assert [True, True] == [peer.startswith(event.peer), detail.startswith(event.detail)]
    assert max(len(event.peer.encode()), len(event.detail.encode())) <= MAX_TEXT


@pytest.mark.parametrize("action", Action)
def test_actions_have_a_grammar(action: Action) -> None:
    """Every action is a subject and what happened to it."""
    assert [True, True] == [part.isalpha() and part.islower() for part in action.value.split(":")]
