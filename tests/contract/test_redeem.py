"""The steps of the redeem on every store, held to the core's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.adapters.sql.clock import boot_ms
from broker.core import lease
from broker.core.audit import Action
from broker.core.grant_state import GrantState, Hold, Phase
from broker.core.models import Kind
from broker.ports import ObjectChange
from tests.contract.backends import EVENT, SEALED, Backend, nearly, put_grant, record_of, relative, seen
from tests.contract.test_steps import REPLICAS, apply, as_settled
from tests.support.times import TIMES

NAMES = count()


async def consent(backend: Backend, grant_id: str, fingerprint: str = "t0") -> GrantState:
    """Give a grant its first refresh token."""
    grant = await backend.store.get_grant(grant_id)
    assert grant is not None
    state = await backend.store.keep_and_consent(
        grant_id,
        lease.Consented(fingerprint),
        grant.state.consent,
        SEALED,
        None,
        EVENT,
        expected_attempt=grant.state.attempt,
    )
    assert state is not None
    return state


async def consented_grant(backend: Backend) -> str:
    """Return the id of a grant that can be redeemed."""
    grant_id = await put_grant(backend.store, f"grant-{next(NAMES)}")
    await consent(backend, grant_id)
    return grant_id


async def state_of(backend: Backend, grant_id: str) -> GrantState:
    """Return a grant's state as stored, tokens included."""
    grant = await backend.store.get_grant(grant_id)
    assert grant is not None
    return grant.state


async def sent(backend: Backend, grant_id: str) -> GrantState:
    """Take a grant and get the licence to write."""
    taken = await backend.store.apply(grant_id, lease.Take("me"))
    assert taken is not None
    licence = lease.Sent(taken.attempt, taken.generation, None)
    state = await backend.store.licence(licence, record_of(grant_id, taken.attempt))
    assert state is not None
    return state


# --- any history gives the state the core says -----------------------------------------------------------------------

OFF = st.sampled_from((0, 0, 0, 0, 0, -1, 1))
BACK_OFF = st.sampled_from((0, 30_000))
WINDOW = st.sampled_from((None, 40_000))
FINGERPRINT = st.sampled_from(("t0", "t1", "t2", "t3", "t4"))


@dataclass(frozen=True)
class Move:
    """Something that happens to a grant; numbers are given as differences from the grant's own."""

    what: str
    attempt: int = 0
    generation: int = 0
    consent: int = 0
    fingerprint: str = "t1"
    milliseconds: int | None = 0

    def event(self, state: GrantState) -> lease.Event:
        """Return the event this is for a grant in `state`."""
        attempt, generation = state.attempt + self.attempt, state.generation + self.generation
        consent_, back_off = state.consent + self.consent, self.milliseconds or 0
        events: dict[str, lease.Event] = {
            "take": lease.Take("gone"),
            "extend": lease.Extend(attempt),
            "sent": lease.Sent(attempt, generation, self.milliseconds),
            "land": lease.Land(attempt, generation, consent_, self.fingerprint),
            "not_rotated": lease.NotRotated(attempt),
            "not_sent": lease.NotSent(attempt, back_off),
            "not_consumed": lease.NotConsumed(attempt, back_off),
            "refused": lease.Refused(attempt, generation, consent_),
            "unknown": lease.Unknown(attempt if self.attempt <= 0 else None, back_off),
            "closed": lease.Closed(attempt),
            "finish": lease.Finish(attempt),
            "finish-again": lease.Finish(attempt, "gone"),
            "consented": lease.Consented(self.fingerprint),
            "adopt": lease.Adopt(),
            "replay": lease.Replay("gone"),
            "probe": lease.Probe("gone", settled=False),
            "settle": lease.Settle(),
            "freeze": lease.Freeze(),
            "unfreeze": lease.Unfreeze(),
            "revoke": lease.Revoke(),
            "token-revoked": lease.TokenRevoked(self.fingerprint),
            "revoked": lease.Revoked(),
        }
        return events[self.what]


MOVES = st.one_of(
    st.builds(Move, st.sampled_from(("take", "take", "take", "finish", "finish-again", "not_rotated"))),
    st.builds(Move, st.just("sent"), OFF, OFF, milliseconds=WINDOW),
    st.builds(Move, st.just("sent"), milliseconds=WINDOW),
    st.builds(Move, st.just("land"), OFF, OFF, st.sampled_from((0, 0, 0, -1)), FINGERPRINT),
    st.builds(Move, st.sampled_from(("not_sent", "not_consumed", "unknown")), OFF, milliseconds=BACK_OFF),
    st.builds(Move, st.just("refused"), OFF, OFF),
    st.builds(Move, st.sampled_from(("extend", "closed", "unknown", "finish", "not_rotated")), OFF),
    st.builds(Move, st.sampled_from(("adopt", "replay", "probe", "settle"))),
    st.builds(Move, st.sampled_from(("consented", "token-revoked")), fingerprint=FINGERPRINT),
    st.builds(Move, st.just("pass"), milliseconds=st.sampled_from((10_000, 20_000, 50_000, 150_000))),
    st.builds(Move, st.sampled_from(("freeze", "unfreeze", "unfreeze", "revoke", "revoked"))),
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(MOVES, min_size=4, max_size=20))
async def test_every_history_leaves_the_state_the_core_says(backend: Backend, moves: list[Move]) -> None:
    """Whatever events come in whatever order, row, tokens and open sends equal what core.lease.step makes of them."""
    grant_id = await put_grant(backend.store, f"history-{next(NAMES)}")
    await backend.put_replicas(REPLICAS)
    model, ahead, began = GrantState(), 0, boot_ms()
    replicas = [seen(replica, began) for replica in REPLICAS]
    for move in [Move("consented", fingerprint="t0"), *moves]:
        if move.what in {"land", "consented"}:
            await backend.advance(20)  # tokens received one after another have different times
            ahead += 20
        if move.what == "pass":
            await backend.advance(move.milliseconds or 0)
            ahead += move.milliseconds or 0
        else:
            event = move.event(model)
            now = boot_ms() + ahead
            expected = lease.step(model, as_settled(model, event, replicas, now), now, TIMES)
            actual = await apply(backend, grant_id, event, model)
            assert (expected is None) == (actual is None), event
            model = model if expected is None else expected
        grant = await backend.store.get_grant(grant_id)
        assert grant is not None
        assert nearly(model, boot_ms() + ahead) == relative(grant.state, await backend.now())


async def test_counters_follow_every_history(backend: Backend) -> None:
    """The counters hold each grant once, under the state it is shown with."""
    ids = [await consented_grant(backend) for _ in range(5)]
    refused = await sent(backend, ids[1])
    await backend.store.apply(ids[1], lease.Refused(refused.attempt, refused.generation, refused.consent))
    unknown = await sent(backend, ids[2])
    await backend.store.apply(ids[2], lease.Unknown(unknown.attempt))
    landed = await sent(backend, ids[3])
    await backend.store.apply(ids[3], lease.Unknown(landed.attempt))
    land = lease.Land(landed.attempt, landed.generation, landed.consent, "t1")
    await backend.store.keep_and_land(ids[3], land, SEALED, EVENT)
    not_rotated = await sent(backend, ids[4])
    await backend.store.apply(ids[4], lease.Unknown(not_rotated.attempt))
    await backend.store.apply(ids[4], lease.NotRotated(not_rotated.attempt))
    expected = {"ok": 3, "quarantined": 1, "unknown": 1, "frozen": 0, "revoked": 0}
    assert expected == await backend.store.grant_counts()


# --- races and odd ends ----------------------------------------------------------------------------------------------


async def test_one_of_many_takers_wins(backend: Backend) -> None:
    """However many take a grant at once, one gets the lease."""
    grant_id = await consented_grant(backend)
    taken = await asyncio.gather(*(backend.store.apply(grant_id, lease.Take(f"owner-{n}")) for n in range(8)))
    assert 1 == sum(state is not None for state in taken)


async def test_steps_of_a_grant_that_is_not_there_do_not_happen(backend: Backend) -> None:
    """A step on an unknown id returns None."""
    assert await backend.store.apply("nobody", lease.Take("me")) is None


@pytest.mark.parametrize(
    "event",
    [
        lease.Land(1, 1, 1, "t1"),
        lease.Consented("t1"),
        lease.Sent(1, 1, None),
        lease.Closed(1),
        lease.Probe("me", settled=True),
        lease.Settle(),
        lease.Freeze(),
        lease.Unfreeze(),
        lease.Revoke(),
    ],
)
async def test_steps_that_are_more_than_the_row_have_their_own_methods(backend: Backend, event: lease.Event) -> None:
    """Whatever carries a token, depends on more than the row or is an operator's: `apply` is the wrong way."""
    with pytest.raises(TypeError):
        await backend.store.apply("any", event)


async def test_a_token_received_too_late_is_kept(backend: Backend) -> None:
    """A reply that the fences refuse still leaves its refresh token in the store, with its event."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    late = lease.Land(state.attempt, state.generation - 1, state.consent, "late")
    after = await backend.store.keep_and_land(grant_id, late, SEALED, EVENT)
    grant = await backend.store.get_grant(grant_id)
    assert grant is not None
    assert ("t0", {"t0", "late"}) == (after.current, {token.fingerprint for token in grant.state.tokens})


async def test_landing_twice_is_landing_once(backend: Backend) -> None:
    """Repeating KEEP and LAND, as a replayed journal does, finds the token current and moves nothing."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    land = lease.Land(state.attempt, state.generation, state.consent, "t1")
    first = await backend.store.keep_and_land(grant_id, land, SEALED, EVENT)
    second = await backend.store.keep_and_land(grant_id, land, SEALED, EVENT)
    assert ("t1", first.generation, first.phase) == (second.current, second.generation, second.phase)


async def test_a_token_for_a_removed_grant_does_not_vanish_in_an_error(backend: Backend) -> None:
    """A reply for a grant revoked and removed meanwhile is taken; the grant is shown as revoked."""
    grant_id = await consented_grant(backend)
    await backend.hold(grant_id, "revoked")
    grant = await backend.store.get_grant(grant_id)
    assert grant is not None
    await backend.store.write_objects([ObjectChange(Kind.GRANT, grant.name, None)], revision=None, event=EVENT)
    after = await backend.store.keep_and_land(grant_id, lease.Land(1, 1, 1, "t1"), SEALED, EVENT)
    assert (Hold.REVOKED, None) == (after.hold, after.current)


async def test_a_consent_is_fenced_by_what_its_token_was_sealed_for(backend: Backend) -> None:
    """A consent whose attempt moved since its token was sealed does not happen and keeps nothing."""
    grant_id = await consented_grant(backend)
    await sent(backend, grant_id)
    args = (grant_id, lease.Consented("t9"), 1, SEALED, "subject", EVENT)
    assert await backend.store.keep_and_consent(*args, expected_attempt=1) is None
    grant = await backend.store.get_grant(grant_id)
    assert grant is not None
    assert (["t0"], None) == ([token.fingerprint for token in grant.state.tokens], grant.subject)


async def test_a_quarantine_tells_its_event(backend: Backend) -> None:
    """The event lies in the outbox from the step's transaction on, once; a step that quarantines nothing tells none."""
    grant_id = await consented_grant(backend)
    record = replace(EVENT, action=Action.GRANT_QUARANTINE)

    async def refuse(state: GrantState) -> None:
        await backend.store.apply(
            grant_id, lease.Refused(state.attempt, state.generation, state.consent), record=record
        )

    state = await sent(backend, grant_id)
    late = lease.Land(state.attempt - 1, state.generation - 1, state.consent, "t1")
    await backend.store.keep_and_land(grant_id, late, SEALED, EVENT)
    await refuse(state)
    state = await sent(backend, grant_id)
    told = [await pending_quarantines(backend)]
    await refuse(state)
    await refuse(state)
    assert [0, 1] == [*told, await pending_quarantines(backend)]


async def pending_quarantines(backend: Backend) -> int:
    """Return how many quarantines the outbox tells of."""
    return sum(item.event.action is Action.GRANT_QUARANTINE for item in await backend.store.undelivered(100))


@pytest.mark.parametrize("used", [False, True])
async def test_a_token_is_sealed_anew_until_it_is_used(backend: Backend, used: bool) -> None:
    """A token brought again is stored as sealed now, unless it was sent: then it stays as it was."""
    grant_id = await consented_grant(backend)
    if used:
        await sent(backend, grant_id)
    before = await state_of(backend, grant_id)
    args = (grant_id, lease.Consented("t0"), before.consent, replace(SEALED, ciphertext=b"anew"), None, EVENT)
    after = await backend.store.keep_and_consent(*args, expected_attempt=before.attempt)
    assert after is not None
    current = await backend.store.current_refresh_token(grant_id)
    assert current is not None
    expected = (1, 1, SEALED.ciphertext) if used else (after.consent, after.attempt, b"anew")
    assert expected == (current.consent, current.attempt, current.sealed.ciphertext)


async def test_a_send_taken_back_leaves_the_token_unsent(backend: Backend) -> None:
    """A token counts as never sent after a first send that did not happen, but not after an earlier one that did."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.NotSent(state.attempt, 0))
    (never_sent,) = (await state_of(backend, grant_id)).tokens
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.NotConsumed(state.attempt, 0))
    await backend.advance(20)
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.NotSent(state.attempt, 0))
    (once_sent,) = (await state_of(backend, grant_id)).tokens
    assert (None, True) == (never_sent.first_sent_at, once_sent.first_sent_at is not None)


async def test_a_consent_learns_the_subject_and_moves_the_version(backend: Backend) -> None:
    """After a consent the grant names its subject, and other replicas can see that it changed."""
    grant_id = await put_grant(backend.store, "login")
    before = await backend.store.read_version()
    args = (grant_id, lease.Consented("t0"), 0, SEALED, "alice", EVENT)
    assert await backend.store.keep_and_consent(*args, expected_attempt=0) is not None
    grant = await backend.store.find_grant("login")
    assert grant is not None
    assert ("alice", before + 1, [grant_id]) == (
        grant.subject,
        await backend.store.read_version(),
        await backend.store.changed_grants(before),
    )


async def test_the_current_refresh_token_is_the_one_landed(backend: Backend) -> None:
    """The token to send next, with the facts it is sealed for; none before the first consent."""
    grant_id = await put_grant(backend.store, "tokens")
    assert await backend.store.current_refresh_token(grant_id) is None
    await consent(backend, grant_id)
    state = await sent(backend, grant_id)
    land = lease.Land(state.attempt, state.generation, state.consent, "t1")
    await backend.store.keep_and_land(grant_id, land, SEALED, EVENT)
    current = await backend.store.current_refresh_token(grant_id)
    assert current is not None
    assert ("t1", 1, state.attempt, SEALED) == (current.fingerprint, current.consent, current.attempt, current.sealed)


async def test_a_lease_that_ended_before_the_licence_gives_none(backend: Backend) -> None:
    """Sent is refused once the lease is over, and the grant can be taken again."""
    grant_id = await consented_grant(backend)
    taken = await backend.store.apply(grant_id, lease.Take("slow"))
    assert taken is not None
    await backend.advance(TIMES.lease + 1)
    licence = lease.Sent(taken.attempt, taken.generation, None)
    assert await backend.store.licence(licence, record_of(grant_id, taken.attempt)) is None
    again = await backend.store.apply(grant_id, lease.Take("next"))
    assert again is not None
    assert (Phase.PREPARED, taken.attempt + 1, "next") == (again.phase, again.attempt, again.owner)
