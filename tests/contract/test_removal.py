"""No grant is removed while its provider may still honour a refresh token of it."""

from __future__ import annotations

import asyncio

import pytest

from broker.core import lease
from broker.core.grant_state import GrantState, Hold, holds_live_token
from broker.core.models import Kind
from broker.ports import LiveGrantError, ObjectChange
from tests.contract.backends import EVENT, SEALED, Backend, new_grant, put_grant
from tests.contract.test_redeem import consented_grant, sent, state_of
from tests.core.test_grant_state import LIVING, SPENT


def removal(grant_id: str) -> ObjectChange:
    """Return the change that removes a grant of the tests."""
    return ObjectChange(Kind.GRANT, grant_id.removeprefix("id-"), None)


@pytest.mark.parametrize("state", LIVING.values(), ids=LIVING)
async def test_a_grant_that_holds_a_token_stays(backend: Backend, state: GrantState) -> None:
    """The write is refused whole: neither the grant nor anything beside it is changed."""
    living, other = await put_grant(backend.store, "living"), await put_grant(backend.store, "other")
    await backend.put_states({living: state})
    before = await backend.store.read_version()
    changes = [removal(other), ObjectChange(Kind.GRANT, "third", new_grant("third")), removal(living)]
    with pytest.raises(LiveGrantError):
        await backend.store.write_objects(changes, revision=7, event=EVENT)
    names = [grant.name for grant in await backend.store.list_grants("", 9)]
    catalog = await backend.store.load_catalog()
    assert (["living", "other"], before, 0) == (names, catalog.version, catalog.revision)


@pytest.mark.parametrize("state", SPENT.values(), ids=SPENT)
async def test_a_grant_without_a_living_token_goes(backend: Backend, state: GrantState) -> None:
    """What never had a token, or whose tokens were refused, revoked or spent, is removed with all kept of it."""
    spent = await put_grant(backend.store, "spent")
    if state.tokens:
        await backend.put_states({spent: state})
    await backend.store.write_objects([removal(spent)], revision=None, event=EVENT)
    kept = [await backend.store.refresh_token(spent, token.fingerprint) for token in state.tokens]
    assert (None, [None] * len(kept)) == (await backend.store.get_grant(spent), kept)


async def test_a_token_that_lands_and_a_removal_do_not_miss_each_other(backend: Backend) -> None:
    """Of a late reply and the removal of a quarantined grant, one sees the other: no token goes with its grant."""
    for _ in range(5):
        grant_id = await consented_grant(backend)
        state = await sent(backend, grant_id)
        await backend.store.apply(grant_id, lease.Refused(state.attempt, state.generation, state.consent))
        assert not holds_live_token(await state_of(backend, grant_id))
        late = lease.Land(state.attempt, state.generation, state.consent, "late")
        landed, removed = await asyncio.gather(
            backend.store.keep_and_land(grant_id, late, SEALED, EVENT),
            backend.store.write_objects([removal(grant_id)], revision=None, event=EVENT),
            return_exceptions=True,
        )
        assert isinstance(landed, GrantState)
        stays = isinstance(removed, LiveGrantError)
        assert (stays, landed.hold) in {(True, Hold.NONE), (False, Hold.REVOKED)}
        assert stays == (await backend.store.get_grant(grant_id) is not None)
