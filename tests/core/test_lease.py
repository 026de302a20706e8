"""The redeem protocol, step by step, and what no row of steps may do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.core.grant_state import GrantState, Health, Hold, KeptToken, Phase, RedeemTimes, is_new, was_used
from broker.core.lease import (
    Consented,
    Event,
    Extend,
    Finish,
    Land,
    NotConsumed,
    NotRotated,
    NotSent,
    Refused,
    Sent,
    Take,
    Unknown,
    step,
)

TIMES = RedeemTimes(
    lease=15_000,
    extend_every=5_000,
    refresh_reply=60_000,
    client_credentials_reply=20_000,
    replay_margin=2_000,
    write_within=1_000,
)
NOW = 1_000_000

FIRST = KeptToken("t1", consent=1, attempt=4, received_at=NOW - 50_000)
IDLE = GrantState(consent=1, generation=3, epoch=2, current="t1", attempt=5, tokens=(FIRST,))
PREPARED = replace(IDLE, phase=Phase.PREPARED, attempt=6, owner="me", lease_until=NOW + 15_000)
SENT_TOKEN = replace(FIRST, first_sent_at=NOW - 100)
SENT = replace(PREPARED, phase=Phase.SENT, sends=1, first_sent_at=NOW - 100, tokens=(SENT_TOKEN,))
LANDED = replace(IDLE, phase=Phase.LANDED, attempt=6, owner="me", lease_until=NOW + 15_000, current="t2", generation=4)
UNKNOWN = replace(SENT, phase=Phase.UNKNOWN)
SIBLING = KeptToken("t9", consent=1, attempt=5, received_at=NOW - 10)


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
        lease_until=NOW + TIMES.lease,
        tokens=(replace(FIRST, first_sent_at=NOW),),
    )
    assert expected == step(PREPARED, Sent(6, 3, replay_for), NOW, TIMES)


def test_sending_again_keeps_the_first_times() -> None:
    """A second send counts, and leaves the start of the doubt and the end of the window where they were."""
    again = replace(SENT, phase=Phase.PREPARED, replay_until=NOW + 5)
    moved = after(again, Sent(6, 3, 30_000))
    assert (NOW - 100, NOW + 5, 2) == (moved.first_sent_at, moved.replay_until, moved.sends)
    assert (SENT_TOKEN,) == moved.tokens


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
    ],
)
def test_sent_is_refused(state: GrantState, event: Sent) -> None:
    """No licence for another attempt or generation, twice, while held, or after the lease."""
    assert step(state, event, NOW, TIMES) is None


# --- Land ------------------------------------------------------------------------------------------------------------

KEPT = KeptToken("t2", consent=1, attempt=6, received_at=NOW)


@pytest.mark.parametrize(
    "state",
    [
        SENT,
        replace(SENT, lease_until=0),
        replace(SENT, hold=Hold.FROZEN),
        replace(SENT, replay_until=NOW + 9, sends=2, probes=1),
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
        tokens=(SENT_TOKEN, KEPT),
    )
    assert expected == step(state, Land(6, 3, 1, "t2"), NOW, TIMES)


@pytest.mark.parametrize("state", [replace(UNKNOWN, attempt=7), replace(PREPARED, attempt=7), replace(IDLE, attempt=7)])
def test_land_of_a_former_owner(state: GrantState) -> None:
    """A late token is current too while nobody else has a send in flight, and fences who took the grant since."""
    moved = after(state, Land(6, 3, 1, "t2"))
    assert (Phase.IDLE, 8, "t2", 4) == (moved.phase, moved.attempt, moved.current, moved.generation)


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
    kept = KeptToken("t2", consent=event.consent, attempt=event.attempt, received_at=NOW)
    assert replace(state, tokens=(*state.tokens, kept)) == step(state, event, NOW, TIMES)


def test_landing_twice_changes_nothing() -> None:
    """A commit whose answer was lost may be run again."""
    once = after(SENT, Land(6, 3, 1, "t2"))
    assert once == step(once, Land(6, 3, 1, "t2"), NOW + 5, TIMES)


def test_a_provider_that_returns_the_same_token_lands() -> None:
    """The same token again ends the doubt, and is not stored twice."""
    moved = after(SENT, Land(6, 3, 1, "t1"))
    assert (Phase.LANDED, "t1", 4, (SENT_TOKEN,)) == (moved.phase, moved.current, moved.generation, moved.tokens)


# --- the other ends of a send ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [SENT, UNKNOWN])
def test_not_rotated(state: GrantState) -> None:
    """A good reply without a refresh token ends the doubt, also one others declared; token and generation stay."""
    expected = replace(state, phase=Phase.LANDED, first_sent_at=None, sends=0)
    assert expected == step(state, NotRotated(6), NOW, TIMES)


@pytest.mark.parametrize(
    ("state", "event", "phase", "sends"),
    [
        (PREPARED, NotSent(6, 500), Phase.IDLE, 0),
        (SENT, NotSent(6, 500), Phase.IDLE, 0),
        (replace(SENT, sends=2), NotSent(6, 500), Phase.UNKNOWN, 1),
        (replace(SENT, phase=Phase.PREPARED), NotSent(6, 500), Phase.UNKNOWN, 1),
        (SENT, NotConsumed(6, 500), Phase.IDLE, 0),
        (replace(SENT, sends=2), NotConsumed(6, 500), Phase.UNKNOWN, 2),
    ],
)
def test_giving_back(state: GrantState, event: NotSent | NotConsumed, phase: Phase, sends: int) -> None:
    """An unsent or unread token is idle again after the back-off, unless an earlier send is still in doubt."""
    moved = after(state, event)
    assert (phase, sends, NOW + 500) == (moved.phase, moved.sends, moved.not_before)
    assert (moved.first_sent_at is not None) == (phase is Phase.UNKNOWN)


@pytest.mark.parametrize(
    ("state", "unsent"),
    [
        (SENT, True),
        (replace(SENT, phase=Phase.PREPARED, sends=0), False),
        (replace(SENT, sends=2), False),
        (replace(SENT, tokens=(replace(SENT_TOKEN, first_sent_at=NOW - 500),)), False),
    ],
)
def test_a_first_send_that_did_not_happen_is_taken_back(state: GrantState, unsent: bool) -> None:
    """Only the step that undoes the one send counted makes the token unsent, and only if that was its first send."""
    (token,) = after(state, NotSent(6, 0)).tokens
    assert unsent == (token.first_sent_at is None)


def test_unknown_by_its_owner() -> None:
    """The owner says it at any time."""
    assert UNKNOWN == step(SENT, Unknown(6), NOW, TIMES)


def test_unknown_by_anyone_after_the_lease() -> None:
    """After the lease anyone says it, and the doubt keeps its first time."""
    over = replace(SENT, lease_until=NOW)
    assert replace(over, phase=Phase.UNKNOWN) == step(over, Unknown(None), NOW, TIMES)


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
        (UNKNOWN, NotSent(6, 0)),
        (SENT, NotConsumed(5, 0)),
        (PREPARED, NotConsumed(6, 0)),
        (SENT, Unknown(5)),
        (SENT, Unknown(None)),
        (replace(SENT, lease_until=NOW), Unknown(5)),
        (PREPARED, Unknown(6)),
        (LANDED, Finish(5)),
        (SENT, Finish(6)),
        (SENT, Refused(5, 3, 1)),
        (SENT, Refused(6, 2, 1)),
        (SENT, Refused(6, 3, 0)),
        (UNKNOWN, Refused(6, 3, 1)),
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


# --- Consented -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", [GrantState(), IDLE, SENT, UNKNOWN, replace(IDLE, health=Health.QUARANTINED, not_before=NOW + 9)]
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
        tokens=(*state.tokens, KeptToken("n1", state.consent + 1, state.attempt + 1, received_at=NOW)),
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
            if not (isinstance(event, NotSent) and (before.phase, before.sends) == (Phase.SENT, 1)):
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


Redeem.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


TestWhateverHappens = Redeem.TestCase
