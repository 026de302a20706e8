"""What recovery and revocation stand on: open sends, late tokens, who has to be moved on, what is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core import lease
from broker.core.grant_state import GrantState, Health, Hold, KeptToken, OpenSend, Phase, is_new, to_revoke
from broker.core.models import Kind
from broker.core.sealing import Sealed
from broker.ports import ObjectChange
from tests.contract.backends import EVENT, SEALED, Backend, new_grant, put_grant, record_of
from tests.contract.test_redeem import consent, consented_grant, sent, state_of
from tests.contract.test_steps import IDLE, NEW, OVER, PREPARED, QUARANTINED, REVOKING, SENT, TOKENS, UNKNOWN
from tests.support.times import TIMES

# --- open sends ------------------------------------------------------------------------------------------------------


async def test_a_send_is_open_until_its_outcome_is_noted(backend: Backend) -> None:
    """The licence opens it in its own transaction; the outcome, whatever it is, closes it and takes its line."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    (opened,) = (await state_of(backend, grant_id)).open_sends
    (line,) = await backend.store.list_attempts(grant_id, 10)
    noted = record_of(grant_id, state.attempt, outcome="landed")
    await backend.store.record_attempt(noted)
    assert ((state.attempt, "me", ""), [noted], ()) == (
        (opened.attempt, opened.owner, line.outcome),
        await backend.store.list_attempts(grant_id, 10),
        (await state_of(backend, grant_id)).open_sends,
    )


async def test_a_send_that_did_not_happen_is_open_no_more(backend: Backend) -> None:
    """NotSent closes it, and the outcome noted after that adds no second line."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.NotSent(state.attempt, 0))
    (line,) = await backend.store.list_attempts(grant_id, 10)
    noted = replace(record_of(grant_id, state.attempt, outcome="not_sent"), cause="dns")
    await backend.store.record_attempt(noted)
    assert ("not_sent", (), [noted]) == (
        line.outcome,
        (await state_of(backend, grant_id)).open_sends,
        await backend.store.list_attempts(grant_id, 10),
    )


async def test_an_open_send_outlives_a_long_history(backend: Backend) -> None:
    """However many attempts follow, a send whose fate nobody told stays known."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    for attempt in range(1, 203):
        await backend.store.record_attempt(record_of(grant_id, 1000 + attempt, outcome="landed"))
    (opened,) = (await state_of(backend, grant_id)).open_sends
    assert (state.attempt, 201) == (opened.attempt, len(await backend.store.list_attempts(grant_id, 1000)))


# --- the row alone ---------------------------------------------------------------------------------------------------


async def test_the_row_alone_says_where_a_grant_stands(backend: Backend) -> None:
    """It is the state without tokens and open sends; None where there is no grant."""
    grant_id = await consented_grant(backend)
    await sent(backend, grant_id)
    whole = await state_of(backend, grant_id)
    assert (1, 1) == (len(whole.tokens), len(whole.open_sends))
    reading = await backend.store.get_state(grant_id)
    assert reading is not None
    assert replace(whole, tokens=(), open_sends=()) == reading.state
    assert abs(reading.now - await backend.now()) < 5_000
    assert await backend.store.get_state("nobody") is None


# --- tokens by name, late tokens, revoked tokens ---------------------------------------------------------------------


async def test_a_token_is_had_by_its_fingerprint_until_it_is_revoked(backend: Backend) -> None:
    """Once the provider was told of it, its sealed value is gone, its row is not."""
    grant_id = await consented_grant(backend)
    found = await backend.store.refresh_token(grant_id, "t0")
    assert found is not None
    assert (SEALED, 1, 1) == (found.sealed, found.consent, found.attempt)
    assert await backend.store.refresh_token(grant_id, "t1") is None
    assert await backend.store.apply(grant_id, lease.TokenRevoked("t1")) is None
    assert await backend.store.apply(grant_id, lease.TokenRevoked("t0")) is not None
    (kept,) = (await state_of(backend, grant_id)).tokens
    assert (True, None, None) == (
        kept.revoked_at is not None,
        await backend.store.refresh_token(grant_id, "t0"),
        await backend.store.current_refresh_token(grant_id),
    )


async def test_a_wiped_token_does_not_come_back(backend: Backend) -> None:
    """A journal that brings it once more changes nothing."""
    grant_id = await consented_grant(backend)
    await backend.store.apply(grant_id, lease.TokenRevoked("t0"))
    await backend.store.keep_and_land(grant_id, lease.Land(1, 0, 1, "t0"), SEALED, EVENT)
    assert await backend.store.refresh_token(grant_id, "t0") is None


@pytest.mark.parametrize("ending", ["revoked", "consented anew"])
async def test_a_late_token_has_to_be_revoked(backend: Backend, ending: str) -> None:
    """A token received after its grant or its login ended is kept, and somebody is told to revoke it, till it is."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.advance(20)
    if ending == "revoked":
        await backend.store.hold(grant_id, lease.Revoke(), EVENT)
        await backend.advance(TIMES.lease + 1)
        await backend.store.apply(grant_id, lease.TokenRevoked("t0"))
        ended = await backend.store.apply(grant_id, lease.Revoked())
        assert ended is not None
    else:
        await consent(backend, grant_id, "t5")
        await backend.store.record_attempt(record_of(grant_id, state.attempt, outcome="unknown"))
    before = await backend.store.unsettled("", 10)
    await backend.advance(20)
    late = lease.Land(state.attempt, state.generation, state.consent, "late")
    await backend.store.keep_and_land(grant_id, late, SEALED, EVENT)
    told = (await backend.store.unsettled("", 10), to_revoke(await state_of(backend, grant_id)))
    await backend.store.apply(grant_id, lease.TokenRevoked("late"))
    assert ([], [grant_id], ["late"], []) == (
        before,
        told[0],
        [token.fingerprint for token in told[1]],
        await backend.store.unsettled("", 10),
    )


async def test_spent_tokens_of_long_ago_are_forgotten(backend: Backend) -> None:
    """Landing keeps the spent tokens of the newest 100 generations, all never sent, and those still to be revoked."""
    grant_id = await put_grant(backend.store, "old")
    spent = tuple(
        KeptToken(f"spent-{number}", 1, number, number, -1_000_000 + number, first_sent_at=-900_000)
        for number in range(1, 140)
    )
    never_sent = KeptToken("never-sent", 1, 1, 1, -1_000_000)
    current = KeptToken("t0", 1, 140, 140, -1_000, first_sent_at=-1_000)
    state = GrantState(
        consent=1,
        generation=141,
        current="t0",
        phase=Phase.SENT,
        attempt=141,
        owner="me",
        lease_until=10_000,
        first_sent_at=-1_000,
        sends=1,
        tokens=(never_sent, *spent, current),
    )
    await backend.put_states({grant_id: state})
    await backend.store.keep_and_land(grant_id, lease.Land(141, 141, 1, "t1"), SEALED, EVENT)
    left = {token.fingerprint for token in (await state_of(backend, grant_id)).tokens}
    assert {"never-sent", "t0", "t1", *(f"spent-{number}" for number in range(42, 140))} == left
    for number in (1, 41, 50):  # a journal that was away brings them once more
        await backend.store.keep_and_land(grant_id, lease.Land(number, number, 1, f"spent-{number}"), SEALED, EVENT)
    state = await state_of(backend, grant_id)
    assert ["never-sent"] == [token.fingerprint for token in state.tokens if is_new(state, token)]
    assert await backend.store.refresh_token(grant_id, "spent-1") is not None


async def test_a_token_given_again_and_again_is_not_forgotten_when_it_is_rotated(backend: Backend) -> None:
    """It is as young as it came last: whoever brings it once more must find that it was spent."""
    grant_id = await put_grant(backend.store, "echoed")
    echoed = KeptToken("t0", 1, 1, 1, -1_000_000, first_sent_at=-900_000)
    state = GrantState(consent=1, generation=150, current="t0", attempt=150, tokens=(echoed,))
    await backend.put_states({grant_id: replace(state, phase=Phase.SENT, lease_until=10_000, sends=1)})
    await backend.store.keep_and_land(grant_id, lease.Land(150, 150, 1, "t0"), SEALED, EVENT)
    await backend.store.apply(grant_id, lease.Finish(150))
    await backend.store.apply(grant_id, lease.Take("me"))
    await backend.store.keep_and_land(grant_id, lease.Land(151, 151, 1, "t1"), SEALED, EVENT)
    assert {"t0", "t1"} == {token.fingerprint for token in (await state_of(backend, grant_id)).tokens}


async def test_a_removed_grant_leaves_nothing(backend: Backend) -> None:
    """With its configuration go its tokens and its history; nobody has to be moved on."""
    grant_id = await consented_grant(backend)
    await sent(backend, grant_id)
    await backend.hold(grant_id, "revoked")
    grant = await backend.store.get_grant(grant_id)
    assert grant is not None
    await backend.store.write_objects([ObjectChange(Kind.GRANT, grant.name, None)], revision=None, event=EVENT)
    await backend.advance(TIMES.lease + 1)
    assert (None, [], []) == (
        await backend.store.refresh_token(grant_id, "t0"),
        await backend.store.list_attempts(grant_id, 10),
        await backend.store.unsettled("", 10),
    )


async def test_a_token_for_a_removed_grant_can_be_revoked(backend: Backend) -> None:
    """It is kept until whoever received it says that the provider was told."""
    land = lease.Land(1, 1, 1, "late")
    assert Hold.REVOKED is (await backend.store.keep_and_land("removed", land, SEALED, EVENT)).hold
    assert await backend.store.refresh_token("removed", "late") is not None
    await backend.store.apply("removed", lease.TokenRevoked("late"))
    assert await backend.store.refresh_token("removed", "late") is None


# --- whoever has to be moved on --------------------------------------------------------------------------------------

LEFT = replace(SENT, lease_until=-20_000)
MOVED_ON: tuple[tuple[str, GrantState, bool], ...] = (
    ("idle", IDLE, False),
    ("under way", SENT, False),
    ("sent and left behind", LEFT, True),
    ("frozen and left behind", replace(LEFT, hold=Hold.FROZEN), False),
    ("prepared and left behind", replace(PREPARED, lease_until=-20_000), False),
    ("prepared replay left behind", replace(UNKNOWN, phase=Phase.PREPARED), True),
    ("unknown inside its window", UNKNOWN, True),
    ("unknown and sent often enough", replace(UNKNOWN, sends=3), False),
    ("unknown beside a token never sent", replace(UNKNOWN, sends=3, tokens=TOKENS[2]), True),
    ("unknown and backing off", replace(UNKNOWN, not_before=100_000), False),
    ("unknown past its window", OVER, True),
    ("unknown and probed in vain", replace(OVER, probes=1), True),
    ("unknown without a window", replace(OVER, replay_until=None), True),
    ("quarantined", QUARANTINED, False),
    ("quarantined beside a token never sent", replace(QUARANTINED, tokens=TOKENS[2]), True),
    ("quarantined, revoked", replace(QUARANTINED, tokens=TOKENS[8], hold=Hold.REVOKED), False),
    ("revoking", REVOKING, True),
    ("revoking while sent", replace(SENT, hold=Hold.REVOKING), False),
    ("revoking, left behind", replace(LEFT, hold=Hold.REVOKING), True),
    ("revoked with a token left", replace(IDLE, hold=Hold.REVOKED), True),
    ("late", replace(IDLE, tokens=(*TOKENS[0], replace(NEW, consent=1, received_at=-10_000))), True),
    ("late and refused", replace(IDLE, tokens=(*TOKENS[0], replace(NEW, consent=1, refused_at=-5_000))), False),
)


async def test_who_has_to_be_moved_on(backend: Backend) -> None:
    """Those nobody works on and for which something can be tried, in order and page by page."""
    names = {f"m{number:02}": case for number, case in enumerate(MOVED_ON)}
    changes = [ObjectChange(Kind.GRANT, name, new_grant(name, name)) for name in names]
    await backend.store.write_objects(changes, revision=None, event=EVENT)
    await backend.put_states({name: state for name, (_, state, _) in names.items()})
    found: list[str] = []
    while page := await backend.store.unsettled(found[-1] if found else "", 4):
        assert len(page) <= 4
        found += page
    assert [names[name][0] for name in sorted(names) if names[name][2]] == [names[name][0] for name in found]


# --- probing, with living and dead owners ----------------------------------------------------------------------------


async def test_a_probe_waits_for_the_owner_of_the_send(backend: Backend) -> None:
    """A living owner is waited for; a dead one until its journal was found empty by the next on its volume."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.store.beat("me", "volume-1", [], [])
    await backend.store.apply(grant_id, lease.Unknown(state.attempt))
    await backend.advance(TIMES.in_flight + 1)
    await backend.store.beat("me", "volume-1", [], [])
    probed = [await backend.store.probe(grant_id, "other")]
    await backend.advance(TIMES.silent + 1)
    probed.append(await backend.store.probe(grant_id, "other"))
    await backend.store.beat("next", "volume-1", [], [])
    await backend.store.drained("next")
    probed.append(await backend.store.probe(grant_id, "other"))
    assert [None, None, Phase.PREPARED] == [None if after is None else after.phase for after in probed]
    assert await backend.store.probe("nobody", "other") is None


async def test_an_operators_word_settles(backend: Backend) -> None:
    """Told that no journal holds anything, nobody waits for a dead owner's."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.Unknown(state.attempt))
    await backend.advance(TIMES.in_flight + 1)
    assert await backend.store.probe(grant_id, "other") is None
    assert await backend.store.hold(grant_id, lease.Settle(), EVENT) is not None
    assert await backend.store.probe(grant_id, "other") is not None


async def test_a_beat_keeps_what_is_its_own(backend: Backend) -> None:
    """Leases of the attempts named are extended, others and ended ones are not."""
    mine, lost, landed = [await consented_grant(backend) for _ in range(3)]
    attempts = {}
    for grant_id in (mine, lost, landed):
        taken = await backend.store.apply(grant_id, lease.Take("me"))
        assert taken is not None
        attempts[grant_id] = taken.attempt
    await backend.store.apply(landed, lease.NotSent(attempts[landed], 0))
    await backend.advance(TIMES.lease - 1_000)
    leases = [(mine, attempts[mine]), (lost, attempts[lost] - 1), (landed, attempts[landed]), ("nobody", 1)]
    await backend.store.beat("me", "volume-1", leases, [])
    await backend.advance(2_000)
    taken_by_others = [await backend.store.apply(grant_id, lease.Take("other")) for grant_id in (mine, lost, landed)]
    assert [True, False, False] == [state is None for state in taken_by_others]


# --- what operators do -----------------------------------------------------------------------------------------------


async def test_holding_moves_the_version_and_tells_its_event(backend: Backend) -> None:
    """A freeze is a change every replica hears of; one that changes nothing writes nothing."""
    grant_id = await consented_grant(backend)
    version, events = await backend.store.read_version(), len(await backend.store.undelivered(100))
    frozen = await backend.store.hold(grant_id, lease.Freeze(), EVENT)
    again = await backend.store.hold(grant_id, lease.Freeze(), EVENT)
    missing = await backend.store.hold("nobody", lease.Freeze(), EVENT)
    assert frozen is not None
    assert (Hold.FROZEN, None, None, version + 1, [grant_id], events + 1) == (
        frozen.hold,
        again,
        missing,
        await backend.store.read_version(),
        await backend.store.changed_grants(version),
        len(await backend.store.undelivered(100)),
    )


async def test_counters_follow_holds_and_recoveries(backend: Backend) -> None:
    """Frozen, revoked, recovered: the counters hold each grant once, under the state it is shown with."""
    ids = [await put_grant(backend.store, f"counted-{number}") for number in range(5)]
    states = (IDLE, IDLE, replace(UNKNOWN, tokens=TOKENS[2]), UNKNOWN, replace(QUARANTINED, tokens=TOKENS[2]))
    for grant_id in ids[2:4]:
        state = await consented(backend, grant_id)
        await backend.store.apply(grant_id, lease.Unknown(state.attempt))
    state = await consented(backend, ids[4])
    await backend.store.apply(ids[4], lease.Refused(state.attempt, state.generation, state.consent))
    await backend.put_states(dict(zip(ids, states, strict=True)))
    before = await backend.store.grant_counts()
    await backend.store.hold(ids[0], lease.Freeze(), EVENT)
    await backend.store.hold(ids[1], lease.Revoke(), EVENT)
    for grant_id, event in ((ids[2], lease.Adopt()), (ids[3], lease.Replay("me")), (ids[4], lease.Adopt())):
        assert await backend.store.apply(grant_id, event) is not None
    expected = {"ok": 3, "quarantined": 0, "unknown": 0, "frozen": 1, "revoked": 1}
    assert ({"ok": 2, "quarantined": 1, "unknown": 2, "frozen": 0, "revoked": 0}, expected) == (
        before,
        await backend.store.grant_counts(),
    )


async def consented(backend: Backend, grant_id: str) -> GrantState:
    """Give a grant a token and send it."""
    await consent(backend, grant_id, f"first-{grant_id}")
    return await sent(backend, grant_id)


async def test_landing_may_be_told_to_all(backend: Backend) -> None:
    """Announced, a landing moves the version, so that no replica serves older access tokens; else it does not."""
    grant_id = await consented_grant(backend)
    seen = [await backend.store.read_version()]
    for number, announce in enumerate((False, True)):
        state = await sent(backend, grant_id)
        land = lease.Land(state.attempt, state.generation, state.consent, f"t{number + 1}")
        await backend.store.keep_and_land(grant_id, land, Sealed("aead-1", b"x"), EVENT, announce=announce)
        await backend.store.finish(grant_id, lease.Finish(state.attempt), None, "")
        seen.append(await backend.store.read_version())
    stale = lease.Land(1, 1, 1, "stale")
    await backend.store.keep_and_land(grant_id, stale, SEALED, EVENT, announce=True)
    assert [0, 0, 1, 1] == [version - seen[0] for version in [*seen, await backend.store.read_version()]]
    assert [grant_id] == await backend.store.changed_grants(seen[0])


async def test_a_send_of_an_older_login_is_no_doubt_of_the_new_one(backend: Backend) -> None:
    """After a new login the open sends of the one before are not the grant's any more."""
    grant_id = await consented_grant(backend)
    await sent(backend, grant_id)
    await consent(backend, grant_id, "t5")
    assert () == (await state_of(backend, grant_id)).open_sends


async def test_health_comes_back_with_an_adopted_token(backend: Backend) -> None:
    """A quarantined grant beside a token never sent is well again once that is adopted."""
    grant_id = await put_grant(backend.store, "adopted")
    await backend.put_states({grant_id: replace(QUARANTINED, tokens=TOKENS[2], open_sends=(OpenSend(3, "me", 0),))})
    after = await backend.store.apply(grant_id, lease.Adopt())
    assert after is not None
    assert (Health.OK, "t1", None) == (after.health, after.current, after.doubted)
