"""The redeem protocol, step by step, and what no row of steps may do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.core.grant_state import GrantState, Health, Hold, KeptToken, OpenSend, Phase, is_new, was_used
from broker.core.lease import (
    Adopt,
    Closed,
    Consented,
    Event,
    Extend,
    Finish,
    Freeze,
    Land,
    NotConsumed,
    NotRotated,
    NotSent,
    Probe,
    Refused,
    Replay,
    Revoke,
    Revoked,
    Sent,
    Settle,
    Take,
    TokenRevoked,
    Unfreeze,
    Unknown,
    step,
)
from tests.support.times import TIMES

NOW = 1_000_000

FIRST = KeptToken("t1", consent=1, attempt=4, generation=2, received_at=NOW - 50_000)
IDLE = GrantState(consent=1, generation=3, epoch=2, current="t1", attempt=5, tokens=(FIRST,))
PREPARED = replace(IDLE, phase=Phase.PREPARED, attempt=6, owner="me", lease_until=NOW + 15_000)
SENT_TOKEN = replace(FIRST, first_sent_at=NOW - 100)
OPEN = OpenSend(6, "me", NOW - 100)
SENT = replace(
    PREPARED,
    phase=Phase.SENT,
    sends=1,
    first_sent_at=NOW - 100,
    last_sent_at=NOW - 100,
    tokens=(SENT_TOKEN,),
    open_sends=(OPEN,),
)
LANDED = replace(IDLE, phase=Phase.LANDED, attempt=6, owner="me", lease_until=NOW + 15_000, current="t2", generation=4)
UNKNOWN = replace(SENT, phase=Phase.UNKNOWN)
SIBLING = KeptToken("t9", consent=1, attempt=5, generation=2, received_at=NOW - 10)
SUCCESSOR = replace(SIBLING, fingerprint="t8", generation=3)


def after(state: GrantState, event: Event) -> GrantState:
    """Return the grant after a step that has to happen."""
    moved = step(state, event, NOW, TIMES)
    assert moved is not None
    return moved


# --- Take ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        IDLE,
        replace(IDLE, not_before=NOW),
        replace(IDLE, lease_until=NOW + 9_000),
        replace(PREPARED, lease_until=NOW),
        replace(LANDED, lease_until=NOW),
    ],
)
def test_take(state: GrantState) -> None:
    """An idle grant, or one whose owner let a lease end before or after the send, goes to a new attempt."""
    expected = replace(
        state, phase=Phase.PREPARED, attempt=state.attempt + 1, owner="you", lease_until=NOW + TIMES.lease
    )
    assert expected == step(state, Take("you"), NOW, TIMES)


@pytest.mark.parametrize(
    "state",
    [
        replace(IDLE, current=None),
        replace(IDLE, hold=Hold.FROZEN),
        replace(IDLE, hold=Hold.REVOKING),
        replace(IDLE, hold=Hold.REVOKED),
        replace(IDLE, health=Health.QUARANTINED),
        replace(IDLE, not_before=NOW + 1),
        replace(IDLE, first_sent_at=NOW - 1),
        replace(PREPARED, lease_until=NOW + 1),
        replace(PREPARED, lease_until=NOW, first_sent_at=NOW - 1),
        replace(LANDED, lease_until=NOW + 1),
        SENT,
        replace(SENT, lease_until=0),
        UNKNOWN,
        replace(UNKNOWN, lease_until=0),
    ],
)
def test_take_is_refused(state: GrantState) -> None:
    """Held, quarantined, backing off, leased, without a token, or anything sent and in doubt: no lease."""
    assert step(state, Take("you"), NOW, TIMES) is None


# --- Extend ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [PREPARED, SENT, LANDED, replace(SENT, lease_until=0)])
def test_extend(state: GrantState) -> None:
    """A living owner keeps its lease, in every phase that has one."""
    assert replace(state, lease_until=NOW + TIMES.lease) == step(state, Extend(6), NOW, TIMES)


@pytest.mark.parametrize(("state", "attempt"), [(PREPARED, 5), (replace(IDLE, attempt=6), 6), (UNKNOWN, 6)])
def test_extend_is_refused(state: GrantState, attempt: int) -> None:
    """Who lost the attempt, or has no lease any more, keeps nothing."""
    assert step(state, Extend(attempt), NOW, TIMES) is None


# --- Sent ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("replay_for", "replay_until"), [(None, None), (30_000, NOW + 30_000)])
def test_sent(replay_for: int | None, replay_until: int | None) -> None:
    """The licence to write marks row and token, and starts the replay window where the provider has one."""
    expected = replace(
        PREPARED,
        phase=Phase.SENT,
        first_sent_at=NOW,
        replay_until=replay_until,
        sends=1,
        last_sent_at=NOW,
        lease_until=NOW + TIMES.lease,
        tokens=(replace(FIRST, first_sent_at=NOW),),
        open_sends=(OpenSend(6, "me", NOW),),
    )
    assert expected == step(PREPARED, Sent(6, 3, replay_for), NOW, TIMES)


def test_sending_again_keeps_the_first_times() -> None:
    """A second send counts, and leaves the start of the doubt and the end of the window where they were."""
    again = replace(SENT, phase=Phase.PREPARED, replay_until=NOW + 5, open_sends=())
    moved = after(again, Sent(6, 3, 30_000))
    assert (NOW - 100, NOW, NOW + 5, 2) == (moved.first_sent_at, moved.last_sent_at, moved.replay_until, moved.sends)
    assert (SENT_TOKEN,) == moved.tokens


def test_a_probe_is_sent_outside_any_window() -> None:
    """That is what a probe is."""
    probing = replace(PREPARED, first_sent_at=NOW - 9, sends=1, probes=1, replay_until=NOW - 1)
    assert Phase.SENT is after(probing, Sent(6, 3, None)).phase


def test_only_the_current_token_is_marked_sent() -> None:
    """A kept sibling stays new."""
    moved = after(replace(PREPARED, tokens=(FIRST, SIBLING)), Sent(6, 3, None))
    assert [NOW, None] == [token.first_sent_at for token in moved.tokens]


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (PREPARED, Sent(5, 3, None)),
        (PREPARED, Sent(6, 2, None)),
        (replace(IDLE, attempt=6), Sent(6, 3, None)),
        (SENT, Sent(6, 3, None)),
        (replace(PREPARED, hold=Hold.FROZEN), Sent(6, 3, None)),
        (replace(PREPARED, lease_until=NOW), Sent(6, 3, None)),
        (replace(PREPARED, first_sent_at=NOW - 9, sends=1), Sent(6, 3, None)),
        (replace(PREPARED, first_sent_at=NOW - 9, sends=1, replay_until=NOW), Sent(6, 3, None)),
    ],
)
def test_sent_is_refused(state: GrantState, event: Sent) -> None:
    """No licence for another attempt or generation, twice, while held, after the lease, or after the replay window."""
    assert step(state, event, NOW, TIMES) is None


# --- Land ------------------------------------------------------------------------------------------------------------

KEPT = KeptToken("t2", consent=1, attempt=6, generation=3, received_at=NOW)


@pytest.mark.parametrize(
    "state",
    [
        SENT,
        replace(SENT, lease_until=0),
        replace(SENT, hold=Hold.FROZEN),
        replace(SENT, replay_until=NOW + 9, sends=2, probes=1, doubted="t0", failures=3),
        UNKNOWN,
        replace(UNKNOWN, health=Health.QUARANTINED),
    ],
)
def test_land_of_the_owner(state: GrantState) -> None:
    """The new token is current and the doubt gone, whatever the lease, also while frozen."""
    expected = replace(
        state,
        phase=Phase.LANDED,
        current="t2",
        generation=4,
        health=Health.OK,
        first_sent_at=None,
        replay_until=None,
        sends=0,
        probes=0,
        doubted=None,
        failures=0,
        landed=6,
        tokens=(SENT_TOKEN, KEPT),
    )
    assert expected == step(state, Land(6, 3, 1, "t2"), NOW, TIMES)


@pytest.mark.parametrize("state", [replace(UNKNOWN, attempt=7), replace(PREPARED, attempt=7), replace(IDLE, attempt=7)])
def test_land_of_a_former_owner(state: GrantState) -> None:
    """A late token is current too while nobody else has a send in flight, and fences who took the grant since."""
    moved = after(state, Land(6, 3, 1, "t2"))
    assert (Phase.IDLE, 8, "t2", 4, 6) == (
        moved.phase,
        moved.attempt,
        moved.current,
        moved.generation,
        moved.landed,
    )


def test_landing_late_takes_nothing_from_what_landed_since() -> None:
    """The newest attempt that was answered stays that."""
    assert 7 == after(replace(UNKNOWN, attempt=8, landed=7), Land(6, 3, 1, "t2")).landed


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (SENT, Land(6, 2, 1, "t2")),
        (SENT, Land(6, 3, 0, "t2")),
        (replace(SENT, attempt=7), Land(6, 3, 1, "t2")),
        (replace(SENT, hold=Hold.REVOKING), Land(6, 3, 1, "t2")),
        (replace(SENT, hold=Hold.REVOKED), Land(6, 3, 1, "t2")),
    ],
)
def test_a_fenced_off_token_is_kept(state: GrantState, event: Land) -> None:
    """Fencing decides only which token is current: a received one is stored always."""
    kept = KeptToken("t2", event.consent, event.attempt, event.generation, received_at=NOW)
    assert replace(state, tokens=(*state.tokens, kept)) == step(state, event, NOW, TIMES)


@pytest.mark.parametrize(("generation", "new"), [(100, True), (101, True), (99, False), (0, False)])
def test_a_token_of_long_ago_is_not_new(generation: int, new: bool) -> None:
    """If it was spent, that is known no more: it is kept, and never adopted as if nobody had sent it."""
    state = replace(UNKNOWN, generation=200)
    kept = after(state, Land(5, generation, 1, "t7")).tokens[-1]
    assert ("t7", None if new else NOW) == (kept.fingerprint, kept.first_sent_at)
    assert new == is_new(state, kept)


def test_landing_twice_changes_nothing() -> None:
    """A commit whose answer was lost may be run again."""
    once = after(SENT, Land(6, 3, 1, "t2"))
    assert once == step(once, Land(6, 3, 1, "t2"), NOW + 5, TIMES)


def test_a_provider_that_returns_the_same_token_lands() -> None:
    """The same token again ends the doubt, and is not stored twice; it counts as young as it came last."""
    moved = after(SENT, Land(6, 3, 1, "t1"))
    kept = replace(SENT_TOKEN, generation=3)
    assert (Phase.LANDED, "t1", 4, (kept,)) == (moved.phase, moved.current, moved.generation, moved.tokens)


# --- the other ends of a send ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [SENT, UNKNOWN, replace(UNKNOWN, doubted="t0", failures=2)])
def test_not_rotated(state: GrantState) -> None:
    """A good reply without a refresh token ends the doubt, also one others declared; token and generation stay."""
    expected = replace(state, phase=Phase.LANDED, first_sent_at=None, sends=0, doubted=None, failures=0, landed=6)
    assert expected == step(state, NotRotated(6), NOW, TIMES)


@pytest.mark.parametrize(
    ("state", "event", "phase", "sends"),
    [
        (PREPARED, NotSent(6, 500), Phase.IDLE, 0),
        (SENT, NotSent(6, 500), Phase.IDLE, 0),
        (UNKNOWN, NotSent(6, 500), Phase.IDLE, 0),
        (replace(SENT, sends=2, probes=1), NotSent(6, 500), Phase.UNKNOWN, 1),
        (replace(PREPARED, first_sent_at=NOW - 900, sends=1, probes=1), NotSent(6, 500), Phase.UNKNOWN, 1),
        (SENT, NotConsumed(6, 500), Phase.IDLE, 0),
        (UNKNOWN, NotConsumed(6, 500), Phase.IDLE, 0),
        (replace(SENT, sends=2, probes=1), NotConsumed(6, 500), Phase.UNKNOWN, 2),
    ],
)
def test_giving_back(state: GrantState, event: NotSent | NotConsumed, phase: Phase, sends: int) -> None:
    """An unsent or unread token is idle again after the back-off, unless an earlier send is still in doubt."""
    moved = after(state, event)
    assert (phase, sends, 0, NOW + 500, 1) == (
        moved.phase,
        moved.sends,
        moved.probes,
        moved.not_before,
        moved.failures,
    )
    assert (moved.first_sent_at is not None) == (phase is Phase.UNKNOWN)


def test_giving_back_without_a_failure() -> None:
    """A lease that was not needed is no failure and asks nobody to wait."""
    moved = after(replace(PREPARED, failures=2), NotSent(6, 0))
    assert (Phase.IDLE, NOW, 2) == (moved.phase, moved.not_before, moved.failures)


@pytest.mark.parametrize(
    ("state", "unsent"),
    [
        (SENT, True),
        (UNKNOWN, True),
        (replace(PREPARED, tokens=(SENT_TOKEN,)), False),
        (replace(SENT, sends=2), False),
        (replace(SENT, tokens=(replace(SENT_TOKEN, first_sent_at=NOW - 500),)), False),
    ],
)
def test_a_first_send_that_did_not_happen_is_taken_back(state: GrantState, unsent: bool) -> None:
    """Only the step that undoes the one send counted makes the token unsent, and only if that was its first send."""
    (token,) = after(state, NotSent(6, 0)).tokens
    assert unsent == (token.first_sent_at is None)


def test_a_send_that_did_not_happen_is_taken_back_once() -> None:
    """Said again, because the answer of the first commit was lost, it does not take an earlier send off the count."""
    once = after(replace(SENT, sends=2), NotSent(6, 0))
    assert ((Phase.UNKNOWN, 1, ()), None) == (
        (once.phase, once.sends, once.open_sends),
        step(once, NotSent(6, 0), NOW, TIMES),
    )


def test_unknown_by_its_owner() -> None:
    """The owner says it at any time."""
    assert replace(UNKNOWN, not_before=NOW) == step(SENT, Unknown(6), NOW, TIMES)


def test_unknown_may_ask_others_to_wait() -> None:
    """A replay right after a failure would meet the same; the wait never gets shorter."""
    assert NOW + 700 == after(SENT, Unknown(6, 700)).not_before
    assert NOW + 900 == after(replace(SENT, not_before=NOW + 900), Unknown(6, 700)).not_before


@pytest.mark.parametrize(
    "over",
    [
        replace(SENT, lease_until=NOW),
        replace(PREPARED, lease_until=NOW, first_sent_at=NOW - 100, sends=1),
    ],
)
def test_unknown_by_anyone_after_the_lease(over: GrantState) -> None:
    """After the lease anyone says it, of a send and of what was to repeat one; the doubt keeps its first time."""
    assert replace(over, phase=Phase.UNKNOWN, not_before=NOW) == step(over, Unknown(None), NOW, TIMES)


def test_a_probe_that_was_never_sent_does_not_count() -> None:
    """Its owner went away before the licence: another probe may be made."""
    probing = replace(PREPARED, lease_until=NOW, first_sent_at=NOW - 100, sends=1, probes=1)
    assert 0 == after(probing, Unknown(None)).probes
    assert 1 == after(replace(SENT, lease_until=NOW, probes=1), Unknown(None)).probes


@pytest.mark.parametrize("attempt", [6, 5])
def test_closing_a_send(attempt: int) -> None:
    """An owner's last word takes its own send off the list, whatever the grant does meanwhile."""
    state = replace(IDLE, attempt=9, open_sends=(OPEN, replace(OPEN, attempt=8)))
    left = state.open_sends[1:] if attempt == 6 else state.open_sends
    assert replace(state, open_sends=left) == step(state, Closed(attempt), NOW, TIMES)


def test_finish() -> None:
    """The access token is stored; the lease is free."""
    assert replace(LANDED, phase=Phase.IDLE) == step(LANDED, Finish(6), NOW, TIMES)


def test_finish_may_take_again() -> None:
    """An owner for whom others wait goes on at once, under a new attempt; a grant that is held is only freed."""
    again = after(LANDED, Finish(6, "me"))
    assert after(after(LANDED, Finish(6)), Take("me")) == again
    assert (Phase.PREPARED, 7, "me") == (again.phase, again.attempt, again.owner)
    frozen = replace(LANDED, hold=Hold.FROZEN)
    assert replace(frozen, phase=Phase.IDLE) == step(frozen, Finish(6, "me"), NOW, TIMES)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (SENT, NotRotated(5)),
        (UNKNOWN, NotRotated(5)),
        (IDLE, NotRotated(6)),
        (PREPARED, NotSent(5, 0)),
        (LANDED, NotSent(6, 0)),
        (replace(UNKNOWN, open_sends=()), NotSent(6, 0)),
        (replace(UNKNOWN, attempt=7), NotSent(6, 0)),
        (replace(UNKNOWN, attempt=7), NotConsumed(6, 0)),
        (replace(UNKNOWN, attempt=7), NotRotated(6)),
        (replace(UNKNOWN, attempt=7), Refused(6, 3, 1)),
        (SENT, NotConsumed(5, 0)),
        (PREPARED, NotConsumed(6, 0)),
        (SENT, Unknown(5)),
        (SENT, Unknown(None)),
        (replace(SENT, lease_until=NOW), Unknown(5)),
        (PREPARED, Unknown(6)),
        (replace(PREPARED, lease_until=NOW), Unknown(None)),
        (replace(PREPARED, first_sent_at=NOW - 1), Unknown(None)),
        (UNKNOWN, Unknown(None)),
        (LANDED, Finish(5)),
        (SENT, Finish(6)),
        (SENT, Refused(5, 3, 1)),
        (SENT, Refused(6, 2, 1)),
        (SENT, Refused(6, 3, 0)),
        (PREPARED, Refused(6, 3, 1)),
    ],
)
def test_what_is_not_ones_own_or_not_the_phase_does_not_happen(state: GrantState, event: Event) -> None:
    """A step of a former owner, or out of its phase, is none."""
    assert step(state, event, NOW, TIMES) is None


# --- Refused ---------------------------------------------------------------------------------------------------------


def test_a_refused_grant_is_quarantined() -> None:
    """Without another token the provider's verdict stands; the token stays, marked."""
    moved = after(SENT, Refused(6, 3, 1))
    assert (Phase.IDLE, Health.QUARANTINED, "t1", 0, None) == (
        moved.phase,
        moved.health,
        moved.current,
        moved.sends,
        moved.first_sent_at,
    )
    assert (replace(SENT_TOKEN, refused_at=NOW),) == moved.tokens


def test_a_refused_token_gives_way_to_the_newest_new_one() -> None:
    """A successor never sent is tried before the grant is given up, under a new attempt and generation."""
    older = replace(SIBLING, fingerprint="t8", received_at=NOW - 20)
    moved = after(replace(SENT, tokens=(SENT_TOKEN, SIBLING, older)), Refused(6, 3, 1))
    assert (Phase.IDLE, Health.OK, "t9", 4, 7) == (
        moved.phase,
        moved.health,
        moved.current,
        moved.generation,
        moved.attempt,
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(SIBLING, consent=0),
        replace(SIBLING, refused_at=NOW - 5),
        replace(SIBLING, first_sent_at=NOW - 5),
    ],
    ids=["of an older login", "refused before", "rotated away"],
)
def test_a_spent_token_is_no_successor(other: KeptToken) -> None:
    """A token of an older login, refused, or rotated away is never turned to: sending it would be reuse."""
    moved = after(replace(SENT, tokens=(SENT_TOKEN, other)), Refused(6, 3, 1))
    assert (Health.QUARANTINED, "t1") == (moved.health, moved.current)


@pytest.mark.parametrize("state", [SENT, UNKNOWN])
def test_a_refused_token_gives_way_to_the_doubted_one_at_last(state: GrantState) -> None:
    """One that was replaced while nobody knew its fate is in doubt again; recovery decides whether it is sent."""
    doubted = replace(SIBLING, fingerprint="t0", first_sent_at=NOW - 900)
    moved = after(replace(state, doubted="t0", tokens=(SENT_TOKEN, doubted)), Refused(6, 3, 1))
    assert (Phase.UNKNOWN, Health.OK, "t0", None, NOW - 900, 1, 4, 7) == (
        moved.phase,
        moved.health,
        moved.current,
        moved.doubted,
        moved.first_sent_at,
        moved.sends,
        moved.generation,
        moved.attempt,
    )
    fresh = after(replace(state, doubted="t0", tokens=(SENT_TOKEN, doubted, SIBLING)), Refused(6, 3, 1))
    assert ("t9", "t0", Phase.IDLE) == (fresh.current, fresh.doubted, fresh.phase)


@pytest.mark.parametrize(
    ("replay_for", "sent_at", "again"),
    [
        (901, NOW - 900, True),
        (900, NOW - 900, False),
        (None, NOW - 900, False),
        (NOW + 900, -1, False),
    ],
    ids=["in its window", "out of it", "without one", "sent before a reboot"],
)
def test_a_spent_token_is_sent_again_only_in_its_window(replay_for: int | None, sent_at: int, again: bool) -> None:
    """The refused one was given for it: what else came of it died with an answer, and its window tells the rest."""
    parent = replace(SENT_TOKEN, fingerprint="t0", generation=SENT_TOKEN.generation - 1, first_sent_at=sent_at)
    moved = after(replace(SENT, doubted="t0", tokens=(SENT_TOKEN, parent)), Refused(6, 3, 1, replay_for))
    expected = (Phase.UNKNOWN, Health.OK, "t0", NOW + 1) if again else (Phase.IDLE, Health.QUARANTINED, "t1", None)
    assert expected == (moved.phase, moved.health, moved.current, moved.replay_until)


# --- Adopt, Replay, Probe --------------------------------------------------------------------------------------------

OVER = replace(UNKNOWN, lease_until=0)
QUARANTINED = replace(IDLE, health=Health.QUARANTINED, tokens=(replace(SENT_TOKEN, refused_at=NOW - 50),))


@pytest.mark.parametrize("state", [OVER, UNKNOWN, QUARANTINED, replace(OVER, hold=Hold.FROZEN)])
def test_adopt(state: GrantState) -> None:
    """A token never sent takes the place of one in doubt or refused, under a new attempt and generation."""
    moved = after(replace(state, tokens=(*state.tokens, SIBLING), not_before=NOW + 9), Adopt())
    assert (Phase.IDLE, Health.OK, "t9", 4, state.attempt + 1, None, 0, 0) == (
        moved.phase,
        moved.health,
        moved.current,
        moved.generation,
        moved.attempt,
        moved.first_sent_at,
        moved.sends,
        moved.not_before,
    )


def test_adopting_turns_to_the_newest() -> None:
    """Of several new tokens the one received last."""
    older = replace(SIBLING, fingerprint="t7", received_at=NOW - 20)
    assert "t9" == after(replace(OVER, tokens=(SENT_TOKEN, SIBLING, older)), Adopt()).current


@pytest.mark.parametrize(
    ("state", "adopted", "doubted"),
    [
        (OVER, SIBLING, "t1"),
        (OVER, SUCCESSOR, None),
        (replace(OVER, replay_until=NOW), SUCCESSOR, None),
        (replace(OVER, replay_until=NOW + 1), SUCCESSOR, "t1"),
        (replace(OVER, doubted="t0"), SUCCESSOR, "t0"),
        (replace(OVER, doubted="t0", replay_until=NOW + 1), SUCCESSOR, "t0"),
        (QUARANTINED, SIBLING, None),
    ],
)
def test_what_adopting_leaves_in_doubt(state: GrantState, adopted: KeptToken, doubted: str | None) -> None:
    """The replaced token is doubted unless it was refused, or is spent, the adopted one's parent, and out of window."""
    assert doubted == after(replace(state, tokens=(*state.tokens, adopted)), Adopt()).doubted


@pytest.mark.parametrize(
    "state",
    [
        OVER,
        replace(OVER, tokens=(SENT_TOKEN, replace(SIBLING, first_sent_at=NOW - 1))),
        replace(OVER, tokens=(SENT_TOKEN, replace(SIBLING, refused_at=NOW - 1))),
        replace(OVER, tokens=(SENT_TOKEN, replace(SIBLING, consent=0))),
        replace(OVER, tokens=(SENT_TOKEN, SIBLING), hold=Hold.REVOKING),
        replace(IDLE, tokens=(FIRST, SIBLING)),
        replace(SENT, tokens=(SENT_TOKEN, SIBLING)),
        replace(SENT, tokens=(SENT_TOKEN, SIBLING), lease_until=0),
    ],
)
def test_nothing_to_adopt(state: GrantState) -> None:
    """Without a new token, while the current one is good or somebody works, or once revoked, nothing is adopted."""
    assert step(state, Adopt(), NOW, TIMES) is None


IN_WINDOW = replace(OVER, replay_until=NOW + 1)


@pytest.mark.parametrize(
    ("state", "event", "probes"),
    [
        (IN_WINDOW, Replay("you"), 0),
        (replace(IN_WINDOW, sends=2, lease_until=NOW + 5), Replay("you"), 0),
        (OVER, Probe("you", settled=True), 1),
        (replace(OVER, replay_until=NOW), Probe("you", settled=True), 1),
        (replace(OVER, replay_until=NOW - 5, sends=3), Probe("you", settled=True), 1),
        (replace(OVER, probes=1), Probe("you", settled=True), 1),
    ],
)
def test_sending_again(state: GrantState, event: Event, probes: int) -> None:
    """Inside the window a token in doubt is sent again; after it, or without one, only when all is settled."""
    expected = replace(
        state, phase=Phase.PREPARED, attempt=7, owner="you", lease_until=NOW + TIMES.lease, probes=probes
    )
    assert expected == step(state, event, NOW, TIMES)


@pytest.mark.parametrize("event", [Replay("you"), Probe("you", settled=True)])
@pytest.mark.parametrize(
    "change",
    [
        {"phase": Phase.SENT},
        {"phase": Phase.PREPARED},
        {"phase": Phase.IDLE},
        {"hold": Hold.FROZEN},
        {"hold": Hold.REVOKING},
        {"health": Health.QUARANTINED},
        {"not_before": NOW + 1},
        {"tokens": (SENT_TOKEN, SIBLING)},
        {"current": None},
    ],
)
def test_sending_again_is_refused(event: Event, change: dict[str, Any]) -> None:
    """Held, quarantined, backing off, not in doubt, or with a token that was never sent: nothing is sent again."""
    replay_until = NOW + 1 if isinstance(event, Replay) else None
    assert step(replace(OVER, replay_until=replay_until, **change), event, NOW, TIMES) is None


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (OVER, Replay("you")),
        (replace(IN_WINDOW, replay_until=NOW), Replay("you")),
        (replace(IN_WINDOW, sends=3), Replay("you")),
        (IN_WINDOW, Probe("you", settled=True)),
        (OVER, Probe("you", settled=False)),
    ],
)
def test_what_the_window_and_the_probe_s_conditions_forbid(state: GrantState, event: Event) -> None:
    """No replay outside the window or a fourth time; no probe inside it, or unsettled."""
    assert step(state, event, NOW, TIMES) is None


def test_an_operator_settles() -> None:
    """Only a grant in doubt has anything to be settled."""
    assert replace(OVER, settled_at=NOW) == step(OVER, Settle(), NOW, TIMES)
    assert step(IDLE, Settle(), NOW, TIMES) is None


# --- Freeze, Revoke --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [IDLE, PREPARED, SENT, LANDED, UNKNOWN])
def test_freezing_moves_nothing_but_the_hold(state: GrantState) -> None:
    """A freeze during a redeem overwrites nothing of it, and is undone without a trace."""
    frozen = after(state, Freeze())
    assert replace(state, hold=Hold.FROZEN) == frozen
    assert state == after(frozen, Unfreeze())
    assert [None, None] == [step(frozen, Freeze(), NOW, TIMES), step(state, Unfreeze(), NOW, TIMES)]


@pytest.mark.parametrize("hold", [Hold.REVOKING, Hold.REVOKED])
@pytest.mark.parametrize("event", [Freeze(), Unfreeze(), Revoke()])
def test_what_is_revoked_stays_revoked(hold: Hold, event: Event) -> None:
    """No step leads back."""
    assert step(replace(IDLE, hold=hold), event, NOW, TIMES) is None


@pytest.mark.parametrize("state", [IDLE, PREPARED, SENT, LANDED, UNKNOWN, replace(IDLE, hold=Hold.FROZEN)])
def test_revoking_begins_in_any_phase(state: GrantState) -> None:
    """Tokens handed out before are those of an older epoch at once; the redeem under way goes on."""
    assert replace(state, hold=Hold.REVOKING, epoch=3) == step(state, Revoke(), NOW, TIMES)


def test_the_provider_was_told_of_a_token() -> None:
    """The token is marked once; one that is not there is nobody's."""
    told = after(replace(IDLE, tokens=(FIRST, SIBLING)), TokenRevoked("t9"))
    assert (FIRST, replace(SIBLING, revoked_at=NOW)) == told.tokens
    assert told == step(told, TokenRevoked("t9"), NOW + 5, TIMES)
    assert step(told, TokenRevoked("other"), NOW, TIMES) is None


TOLD = replace(FIRST, revoked_at=NOW - 1)
REVOKING = replace(IDLE, hold=Hold.REVOKING, tokens=(TOLD,))


@pytest.mark.parametrize(
    "state",
    [
        REVOKING,
        replace(REVOKING, tokens=(TOLD, replace(SIBLING, refused_at=NOW - 1))),
        replace(REVOKING, phase=Phase.UNKNOWN, lease_until=NOW + 9),
        replace(REVOKING, phase=Phase.LANDED, lease_until=NOW + 9),
        replace(REVOKING, phase=Phase.SENT, lease_until=NOW),
        replace(REVOKING, phase=Phase.PREPARED, lease_until=NOW),
        replace(REVOKING, tokens=()),
    ],
)
def test_nothing_is_left(state: GrantState) -> None:
    """With every token told or refused and nobody sending, the grant is revoked for good."""
    assert replace(state, hold=Hold.REVOKED) == step(state, Revoked(), NOW, TIMES)


@pytest.mark.parametrize(
    "state",
    [
        replace(REVOKING, hold=Hold.FROZEN),
        replace(REVOKING, hold=Hold.REVOKED),
        replace(REVOKING, tokens=(TOLD, SIBLING)),
        replace(REVOKING, phase=Phase.SENT, lease_until=NOW + 1),
        replace(REVOKING, phase=Phase.PREPARED, lease_until=NOW + 1),
    ],
)
def test_something_is_left(state: GrantState) -> None:
    """A token the provider still honours, or one that may yet come, keeps the grant revoking."""
    assert step(state, Revoked(), NOW, TIMES) is None


# --- Consented -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        GrantState(),
        IDLE,
        SENT,
        replace(UNKNOWN, doubted="t0"),
        replace(IDLE, health=Health.QUARANTINED, not_before=NOW + 9, failures=4),
    ],
)
def test_consented(state: GrantState) -> None:
    """A login starts afresh with its own token, in any phase, and fences whoever is under way."""
    expected = replace(
        state,
        consent=state.consent + 1,
        generation=state.generation + 1,
        epoch=state.epoch + 1,
        attempt=state.attempt + 1,
        current="n1",
        phase=Phase.IDLE,
        health=Health.OK,
        first_sent_at=None,
        replay_until=None,
        sends=0,
        probes=0,
        not_before=0,
        failures=0,
        doubted=None,
        tokens=(
            *state.tokens,
            KeptToken("n1", state.consent + 1, state.attempt + 1, state.generation, received_at=NOW),
        ),
        open_sends=(),
    )
    assert expected == step(state, Consented("n1"), NOW, TIMES)


@pytest.mark.parametrize("hold", [Hold.FROZEN, Hold.REVOKING, Hold.REVOKED])
def test_a_held_grant_takes_no_consent(hold: Hold) -> None:
    """Our own will stands above a login."""
    assert step(replace(IDLE, hold=hold), Consented("n1"), NOW, TIMES) is None


def test_what_is_no_event_is_our_own_bug() -> None:
    """A step the table does not have is a mistake in our code, not a step that did not happen."""
    with pytest.raises(AssertionError):
        step(IDLE, object(), NOW, TIMES)  # type: ignore[arg-type]


# --- whatever happens ------------------------------------------------------------------------------------------------

RECENT = st.integers(min_value=0, max_value=3)
"""How far back an event's fences lie: 0 is now, 3 a long gone owner."""


class Redeem(RuleBasedStateMachine):
    """Counters only grow, tokens never vanish, and no second send starts before the first is settled.

    Owners, former owners and operators do anything in any order; the provider answers anything.
    `licences` are the sends whose fate is open: granted by Sent, closed by whatever settles them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.state = GrantState()
        self.licences = 0
        self.received: set[str] = set()

    def run(self, event: Event) -> GrantState | None:
        """Run one step, holding it against what no step may do."""
        before = self.state
        moved = step(before, event, self.now, TIMES)
        if moved is None:
            return None
        self.state = moved
        for counter in ("consent", "generation", "epoch", "attempt"):
            assert getattr(before, counter) <= getattr(moved, counter), counter
        kept = {token.fingerprint: token for token in moved.tokens}
        for token in before.tokens:
            same = kept[token.fingerprint]
            if not (isinstance(event, Consented) and event.fingerprint == token.fingerprint and not was_used(token)):
                facts = (token.consent, token.attempt, token.received_at)
                assert facts == (same.consent, same.attempt, same.received_at)
            if not (isinstance(event, NotSent) and before.sends == 1 and before.phase in {Phase.SENT, Phase.UNKNOWN}):
                assert token.first_sent_at in {None, same.first_sent_at}
            assert token.refused_at is None or same.refused_at is not None
        assert (before.current == moved.current) or before.generation < moved.generation
        assert before.hold == moved.hold
        return moved

    @rule(ahead=st.sampled_from([1, 5_000, 15_000, 40_000]))
    def time_passes(self, ahead: int) -> None:
        self.now += ahead

    @rule(hold=st.sampled_from([Hold.NONE, Hold.NONE, Hold.FROZEN, Hold.REVOKING]))
    def operators_decide(self, hold: Hold) -> None:
        self.state = replace(self.state, hold=hold)

    @rule(fingerprint=st.sampled_from(["c1", "c2", "c3"]))
    def a_person_consents(self, fingerprint: str) -> None:
        if self.run(Consented(fingerprint)):
            self.received.add(fingerprint)
            self.licences = 0

    @rule(owner=st.sampled_from(["a", "b"]))
    def take(self, owner: str) -> None:
        self.run(Take(owner))

    @rule(back=RECENT)
    def extend(self, back: int) -> None:
        self.run(Extend(self.state.attempt - back))

    @rule(back=RECENT, window=st.sampled_from([None, 30_000]))
    def send(self, back: int, window: int | None) -> None:
        doubtful = self.state.first_sent_at is not None
        if self.run(Sent(self.state.attempt - back, self.state.generation - back, window)):
            assert not doubtful
            self.licences += 1

    @rule(attempt=RECENT, generation=RECENT, consent=RECENT, fingerprint=st.sampled_from(["c1", "r1", "r2", "r3"]))
    def a_token_is_received(self, attempt: int, generation: int, consent: int, fingerprint: str) -> None:
        state = self.state
        land = Land(state.attempt - attempt, state.generation - generation, state.consent - consent, fingerprint)
        moved = self.run(land)
        assert moved is not None
        self.received.add(fingerprint)
        if moved.generation > state.generation:
            assert state.hold in {Hold.NONE, Hold.FROZEN}
            assert (generation, consent) == (0, 0)
            assert attempt == 0 or state.phase is not Phase.SENT
            self.licences = 0

    @rule(back=RECENT, kind=st.sampled_from([NotRotated, NotSent, NotConsumed]))
    def a_send_is_settled(self, back: int, kind: type[NotRotated | NotSent | NotConsumed]) -> None:
        sent = self.state.phase is Phase.SENT
        attempt = self.state.attempt - back
        moved = self.run(NotRotated(attempt) if kind is NotRotated else kind(attempt, 500))  # type: ignore[call-arg]
        if moved:
            assert back == 0
            self.licences -= sent

    @rule(back=RECENT)
    def the_provider_refuses(self, back: int) -> None:
        state = self.state
        moved = self.run(Refused(state.attempt - back, state.generation, state.consent))
        if moved:
            refused = {token.fingerprint for token in moved.tokens if token.refused_at is not None}
            assert state.current in refused
            assert moved.health is Health.QUARANTINED or moved.current not in refused
            self.licences = 0

    @rule(back=st.none() | RECENT)
    def nobody_knows(self, back: int | None) -> None:
        over = self.state.lease_until <= self.now
        if self.run(Unknown(None if back is None else self.state.attempt - back)):
            assert over if back is None else back == 0

    @rule(back=RECENT)
    def finish(self, back: int) -> None:
        self.run(Finish(self.state.attempt - back))

    @invariant()
    def every_received_token_is_kept(self) -> None:
        assert self.received == {token.fingerprint for token in self.state.tokens}

    @invariant()
    def at_most_one_send_is_open(self) -> None:
        assert self.licences in {0, 1}
        assert self.licences == (self.state.phase in {Phase.SENT, Phase.UNKNOWN})

    @invariant()
    def doubt_is_seen_in_the_row(self) -> None:
        in_doubt = self.state.phase in {Phase.SENT, Phase.UNKNOWN}
        assert in_doubt == (self.state.first_sent_at is not None) == (self.state.sends > 0)

    @invariant()
    def the_current_token_is_a_kept_one(self) -> None:
        assert self.state.current in {None, *self.received}
        assert not any(
            is_new(self.state, token) for token in self.state.tokens if token.fingerprint == self.state.current
        )


Redeem.TestCase.settings = settings(max_examples=60, stateful_step_count=40)


TestWhateverHappens = Redeem.TestCase
