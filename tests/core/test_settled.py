"""When nothing will come of a send any more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.grant_state import GrantState, OpenSend, Phase
from broker.core.settled import Replica, settled
from tests.support.times import TIMES

NOW = 10_000_000
LONG = TIMES.silent + TIMES.in_flight + 1
SENT_AT = NOW - LONG
SEND = OpenSend(6, "dead", SENT_AT)
STATE = GrantState(phase=Phase.UNKNOWN, first_sent_at=SENT_AT, last_sent_at=SENT_AT, open_sends=(SEND,))
DEAD = Replica("dead", "v1", beat_at=NOW - TIMES.silent, drained_at=SENT_AT - 5)
HEIR = Replica("heir", "v1", beat_at=NOW, drained_at=NOW)


@pytest.mark.parametrize(
    ("state", "replicas"),
    [
        (replace(STATE, open_sends=()), ()),
        (GrantState(), ()),
        (STATE, (DEAD, HEIR)),
        (replace(STATE, settled_at=SENT_AT), (DEAD,)),
        (replace(STATE, settled_at=NOW), ()),
        (
            replace(STATE, last_sent_at=NOW - 600_000, open_sends=(replace(SEND, sent_at=NOW - TIMES.journal_lost),)),
            (replace(DEAD, beat_at=0),),
        ),
        (replace(STATE, open_sends=(replace(SEND, sent_at=NOW - TIMES.journal_lost),)), ()),
    ],
    ids=["closed", "never sent", "drained", "operator", "operator, owner unknown", "waited for", "owner unknown"],
)
def test_settled(state: GrantState, replicas: tuple[Replica, ...]) -> None:
    """Each owner closed its send, or is silent and its journal empty, waited for, or vouched for by an operator."""
    assert settled(state, replicas, NOW, TIMES)


@pytest.mark.parametrize(
    ("state", "replicas"),
    [
        (replace(STATE, last_sent_at=NOW - TIMES.in_flight + 1, open_sends=()), ()),
        (replace(STATE, last_sent_at=NOW - TIMES.in_flight + 1), (DEAD, HEIR)),
        (STATE, (replace(DEAD, beat_at=DEAD.beat_at + 1), HEIR)),
        (STATE, (DEAD,)),
        (STATE, ()),
        (STATE, (DEAD, replace(HEIR, volume="v2"))),
        (STATE, (DEAD, replace(HEIR, drained_at=None))),
        (STATE, (DEAD, replace(HEIR, drained_at=DEAD.beat_at))),
        (STATE, (replace(DEAD, drained_at=NOW),)),
        (replace(STATE, settled_at=SENT_AT - 1), (DEAD,)),
        (replace(STATE, settled_at=NOW), (replace(DEAD, beat_at=NOW),)),
        (
            replace(STATE, open_sends=(SEND, replace(SEND, owner="living"))),
            (DEAD, HEIR, replace(DEAD, owner="living", beat_at=NOW)),
        ),
        (
            replace(STATE, open_sends=(replace(SEND, sent_at=NOW - TIMES.journal_lost + 1),)),
            (replace(DEAD, beat_at=0),),
        ),
        (
            replace(STATE, open_sends=(replace(SEND, sent_at=0),)),
            (replace(DEAD, beat_at=NOW - TIMES.journal_lost + 1),),
        ),
    ],
    ids=[
        "on its way",
        "on its way, all else settled",
        "owner lives",
        "journal unknown",
        "owner unknown, not long ago",
        "another volume is empty",
        "not looked yet",
        "empty before the owner's last beat",
        "the owner's own word of its journal",
        "an operator's word from before the send",
        "an operator's word while the owner lives",
        "one owner of two lives",
        "not waited long enough since the send",
        "not waited long enough since the owner's last beat",
    ],
)
def test_not_settled(state: GrantState, replicas: tuple[Replica, ...]) -> None:
    """Whatever may still come keeps a probe back."""
    assert not settled(state, replicas, NOW, TIMES)
