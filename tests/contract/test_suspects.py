"""Grants held because a store was rolled back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from broker.core import lease
from broker.core.evidence import Landmark
from broker.core.grant_state import GrantState, Hold
from tests.contract.backends import EVENT, Backend, put_grant
from tests.contract.test_redeem import consented_grant, sent, state_of

FOUND = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def landmark_of(backend: Backend, grant_id: str) -> Landmark:
    """Return how far the store knows a grant to have come."""
    return (await backend.store.known_landmarks([grant_id, "nobody"]))[grant_id]


async def held(backend: Backend) -> str:
    """Return a grant that is a suspect."""
    grant_id = await consented_grant(backend)
    assert await backend.store.hold_suspect(grant_id, Landmark(9, 5), FOUND, EVENT)
    return grant_id


async def test_a_store_tells_how_far_it_has_come(backend: Backend) -> None:
    """Its landmarks are the grants' own; its position grows with what it keeps."""
    before = await backend.store.position()
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    after = await backend.store.position()
    assert Landmark(state.attempt, state.generation) == await landmark_of(backend, grant_id)
    assert before is not None
    assert after is not None
    assert (True, False) == (after.is_after(before), before.is_after(after))


async def test_a_suspect_is_frozen_and_listed(backend: Backend) -> None:
    """With what is known and what was noted; its access tokens are told of; everybody hears of it."""
    since = await backend.store.read_version()
    grant_id = await held(backend)
    assert Hold.FROZEN is (await state_of(backend, grant_id)).hold
    (suspect,) = await backend.store.list_suspects("", 10)
    known = await landmark_of(backend, grant_id)
    assert (known, Landmark(9, 5), FOUND) == (suspect.known, suspect.evidence, suspect.found_at)
    assert [grant_id] == await backend.store.changed_grants(since)
    assert [] == await backend.store.list_suspects(suspect.grant, 10)


async def test_more_evidence_is_joined(backend: Backend) -> None:
    """Another replica may have noted more of the one and less of the other; what says no more changes nothing."""
    grant_id = await held(backend)
    version = await backend.store.read_version()
    assert not await backend.store.hold_suspect(grant_id, Landmark(9, 4), FOUND, EVENT)
    assert version == await backend.store.read_version()
    assert await backend.store.hold_suspect(grant_id, Landmark(8, 7), FOUND, EVENT)
    (suspect,) = await backend.store.list_suspects("", 10)
    assert Landmark(9, 7) == suspect.evidence


async def test_a_suspect_is_let_go_by_its_release_alone(backend: Backend) -> None:
    """Unfreezing does not do; the release does, once, and attempts and generations go on from the evidence."""
    grant_id = await held(backend)
    current = (await state_of(backend, grant_id)).current
    assert None is await backend.store.hold(grant_id, lease.Unfreeze(), EVENT)
    after = await backend.store.release(grant_id, abandon=False, record=EVENT)
    assert after is not None
    assert (Hold.NONE, current, 9, 5) == (after.hold, after.current, after.attempt, after.generation)
    assert None is await backend.store.release(grant_id, abandon=False, record=EVENT)
    assert [] == await backend.store.list_suspects("", 10)
    assert not (await landmark_of(backend, grant_id)).is_behind(Landmark(9, 5))


async def test_an_abandoned_token_is_not_sent(backend: Backend) -> None:
    """The grant is as one that was never authorized, and takes a new token."""
    grant_id = await consented_grant(backend)
    await sent(backend, grant_id)
    assert await backend.store.hold_suspect(grant_id, Landmark(9, 5), FOUND, EVENT)
    after = await backend.store.release(grant_id, abandon=True, record=EVENT)
    assert after is not None
    assert GrantState(consent=1, epoch=2, attempt=9, generation=5) == GrantState(
        consent=after.consent,
        epoch=after.epoch,
        attempt=after.attempt,
        generation=after.generation,
        current=after.current,
        phase=after.phase,
        health=after.health,
        hold=after.hold,
        first_sent_at=after.first_sent_at,
    )
    assert None is await backend.store.apply(grant_id, lease.Take("me"))


@pytest.mark.parametrize("hold", ["revoking", "revoked"])
async def test_what_is_revoked_is_no_suspect(backend: Backend, hold: str) -> None:
    """Nothing of it is sent any more."""
    grant_id = await consented_grant(backend)
    await backend.hold(grant_id, hold)
    assert not await backend.store.hold_suspect(grant_id, Landmark(9, 5), FOUND, EVENT)
    assert [] == await backend.store.list_suspects("", 10)


async def test_a_suspect_may_be_revoked(backend: Backend) -> None:
    """That is an end as well."""
    grant_id = await held(backend)
    assert await backend.store.hold(grant_id, lease.Revoke(), EVENT) is not None
    assert [] == await backend.store.list_suspects("", 10)
    assert None is await backend.store.release(grant_id, abandon=False, record=EVENT)


async def test_what_operators_froze_stays_a_suspect_all_the_same(backend: Backend) -> None:
    """It is let go by the release."""
    grant_id = await put_grant(backend.store, "a")
    await backend.store.hold(grant_id, lease.Freeze(), EVENT)
    assert await backend.store.hold_suspect(grant_id, Landmark(9, 5), FOUND, EVENT)
    assert await backend.store.release(grant_id, abandon=False, record=EVENT) is not None


async def test_nobody_s_grant_is_no_suspect(backend: Backend) -> None:
    """One that was removed since."""
    assert not await backend.store.hold_suspect("nobody", Landmark(9, 5), FOUND, EVENT)


@pytest.mark.parametrize("name", ["a\x00", "", "A", "x" * 64])
async def test_what_no_grant_is_called_is_none(backend: Backend, name: str) -> None:
    """Whatever stands in a name, the store answers."""
    await put_grant(backend.store, "a")
    assert None is await backend.store.find_grant(name)
