"""Cached access tokens and the leases of client_credentials keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.core import lease
from broker.core.errors import ScopeSetsError
from broker.core.grant_state import Phase
from broker.core.models import AccessTokenKey
from broker.core.scope_sets import MAX_OF_CALLER
from broker.core.sealing import Sealed
from broker.ports import StoredAccessToken
from tests.contract.backends import SEALED, Backend, put_grant
from tests.contract.test_redeem import consented_grant, sent
from tests.support.times import TIMES

LIFE = 3_600_000


def key(grant_id: str, *scopes: str, epoch: int = 1) -> AccessTokenKey:
    """Return a cache key."""
    return AccessTokenKey(grant_id, epoch, "desk-app", scopes)


def token(of: AccessTokenKey, attempt: int, *, remaining_ms: int = LIFE) -> StoredAccessToken:
    """Return an access token as the flow hands it over."""
    sealed = Sealed(SEALED.key_id, f"sealed at {attempt}".encode())
    return StoredAccessToken(
        key=of,
        attempt=attempt,
        sealed=sealed,
        fingerprint=f"of-{attempt}",
        granted=of.wire_scopes,
        verified=True,
        life_ms=LIFE,
        remaining_ms=remaining_ms,
        renew_ms=None,
        lifetime_assumed=False,
    )


async def test_a_token_put_is_found_with_what_is_left_of_it(backend: Backend) -> None:
    """Everything comes back equal but the remaining life, which the store's clock has counted down."""
    grant_id = await put_grant(backend.store, "a")
    cached = key(grant_id, "read", "trade")
    attempt = await backend.store.take_access(cached, "me", "key:x")
    assert attempt == 1
    stored = token(cached, attempt)
    assert await backend.store.put_access(stored)
    await backend.advance(600_000)
    found = (await backend.store.find_access_tokens([cached]))[cached]
    assert stored == replace(found, remaining_ms=LIFE)
    assert LIFE - 610_000 < found.remaining_ms <= LIFE - 600_000


async def test_only_live_tokens_of_the_very_key_are_found(backend: Backend) -> None:
    """Another scope set, epoch, client or resource is another token; a dead one is none; all in one call."""
    grant_id = await put_grant(backend.store, "a")
    live, dead = key(grant_id, "read"), key(grant_id, "trade")
    for cached, left in ((live, LIFE), (dead, 1_000)):
        assert await backend.store.put_access(token(cached, 1, remaining_ms=left))
    await backend.advance(5_000)
    near = [
        replace(live, wire_scopes=("read", "trade")),
        replace(live, epoch=2),
        replace(live, client_id="other"),
        replace(live, resource="https://api"),
    ]
    assert {live} == set(await backend.store.find_access_tokens([live, dead, *near]))
    assert {} == await backend.store.find_access_tokens([])


async def test_one_of_many_owners_leases_a_key(backend: Backend) -> None:
    """However many take a cache key at once, one gets an attempt."""
    cached = key(await put_grant(backend.store, "a"), "read")
    taken = await asyncio.gather(*(backend.store.take_access(cached, f"owner-{n}", "key:x") for n in range(6)))
    assert [1] == [attempt for attempt in taken if attempt is not None]


async def test_a_stolen_lease_is_fenced_off(backend: Backend) -> None:
    """After its lease ended and another took it, the first owner can neither keep it nor put; the second can."""
    cached = key(await put_grant(backend.store, "a"), "read")
    first = await backend.store.take_access(cached, "first", "key:x")
    assert first is not None
    await backend.advance(TIMES.lease + 1)
    second = await backend.store.take_access(cached, "second", "key:x")
    assert second == first + 1
    assert not await backend.store.put_access(token(cached, first))
    assert await backend.store.put_access(token(cached, second))


async def test_a_token_lives_on_while_its_key_is_taken_again(backend: Backend) -> None:
    """Renewing ahead does not take the old token away, nor the attempt it is sealed for."""
    cached = key(await put_grant(backend.store, "a"), "read")
    assert await backend.store.put_access(token(cached, 1))
    assert await backend.store.take_access(cached, "renewer", "key:x") == 2
    assert token(cached, 1).sealed == (await backend.store.find_access_tokens([cached]))[cached].sealed
    assert (await backend.store.find_access_tokens([cached]))[cached].attempt == 1


async def test_a_released_lease_is_free(backend: Backend) -> None:
    """Releasing lets the next take at once; releasing an old attempt does nothing."""
    cached = key(await put_grant(backend.store, "a"), "read")
    first = await backend.store.take_access(cached, "a", "key:x")
    assert first is not None
    await backend.store.release_access(cached, first + 1)
    assert await backend.store.take_access(cached, "b", "key:x") is None
    await backend.store.release_access(cached, first)
    assert await backend.store.take_access(cached, "b", "key:x") == first + 1


async def test_live_scope_sets_are_bounded(backend: Backend) -> None:
    """Past the bound of a caller's live keys a new one is refused, the old ones are not, and a dead one makes room."""
    grant_id = await put_grant(backend.store, "a")
    leased, cached, third = (key(grant_id, scope) for scope in ("a", "b", "c"))
    for number in range(MAX_OF_CALLER - 2):
        await backend.store.take_access(key(grant_id, f"more-{number}"), "me", "key:x")
    await backend.store.take_access(leased, "me", "key:x")
    attempt = await backend.store.take_access(cached, "me", "key:x")
    assert attempt is not None
    await backend.store.put_access(token(cached, attempt, remaining_ms=60_000))
    with pytest.raises(ScopeSetsError):
        await backend.store.take_access(third, "me", "key:x")
    assert await backend.store.take_access(cached, "me", "key:x") == 2
    assert ["key:x"] * MAX_OF_CALLER == await backend.store.live_scope_sets(grant_id, third)
    assert ["key:x"] * (MAX_OF_CALLER - 1) == await backend.store.live_scope_sets(grant_id, cached)
    assert [] == await backend.store.live_scope_sets(grant_id, key(grant_id, "a", epoch=2))
    assert await backend.store.take_access(third, "me", "key:y") == 1
    await backend.advance(61_000)
    assert await backend.store.take_access(key(grant_id, "d"), "me", "key:x") == 1


async def test_whoever_brings_a_set_to_life_asked_for_it(backend: Backend) -> None:
    """Using a set that is alive changes nothing; a dead one belongs to who asks next, refreshed or not."""
    grant_id = await consented_grant(backend)
    other, leased, redeemed = (key(grant_id, scope, epoch=2) for scope in ("a", "b", "c"))

    async def asked() -> list[str]:
        return sorted(await backend.store.live_scope_sets(grant_id, other))

    for caller, expected in (("key:x", "key:x"), ("key:y", "key:x"), ("key:z", "key:z")):
        if expected == caller:
            await backend.advance(LIFE + 1_000)
        attempt = await backend.store.take_access(leased, "me", caller)
        assert attempt is not None
        assert await backend.store.put_access(token(leased, attempt))
        await backend.store.finish(grant_id, lease.Finish(attempt), token(redeemed, attempt), caller)
        assert [expected, expected] == await asked()


async def test_the_last_place_is_taken_once(backend: Backend) -> None:
    """Those that want the last free scope sets at once do not get more than there are."""
    grant_id = await put_grant(backend.store, "a")
    taken = await asyncio.gather(
        *(backend.store.take_access(key(grant_id, scope), "me", "key:x") for scope in "abcdefgh"),
        return_exceptions=True,
    )
    assert [1] * MAX_OF_CALLER == [attempt for attempt in taken if isinstance(attempt, int)]


async def test_finishing_stores_the_token_and_frees_the_grant(backend: Backend) -> None:
    """FINISH caches the access token and lets the next redeem begin."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.NotRotated(state.attempt))
    cached = key(grant_id, "read", epoch=2)
    finished = await backend.store.finish(grant_id, lease.Finish(state.attempt), token(cached, state.attempt), "key:x")
    assert finished is not None
    assert (Phase.IDLE, {cached}) == (finished.phase, set(await backend.store.find_access_tokens([cached])))


async def test_an_older_redeem_does_not_overwrite_a_newer_token(backend: Backend) -> None:
    """A late FINISH is told it came late, stores over a lower attempt only, and frees nothing that is not its own."""
    grant_id = await consented_grant(backend)
    cached = key(grant_id, "read", epoch=2)
    assert await backend.store.finish(grant_id, lease.Finish(5), token(cached, 5), "key:x") is None
    assert await backend.store.finish(grant_id, lease.Finish(4), token(cached, 4), "key:x") is None
    again = replace(token(cached, 5), sealed=Sealed(SEALED.key_id, b"the same attempt, sealed again"))
    assert await backend.store.finish(grant_id, lease.Finish(5), again, "key:x") is None
    assert token(cached, 5).sealed == (await backend.store.find_access_tokens([cached]))[cached].sealed
    assert 5 == (await backend.store.find_access_tokens([cached]))[cached].attempt


async def test_finishing_without_a_token_only_frees(backend: Backend) -> None:
    """A landed grant whose access token could not be used is free again."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.NotRotated(state.attempt))
    finished = await backend.store.finish(grant_id, lease.Finish(state.attempt), None, "")
    assert finished is not None
    assert Phase.IDLE is finished.phase
