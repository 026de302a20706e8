"""Tokens to be renewed, tokens in use, tokens that ended before their time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from broker.adapters.memory import base
from broker.adapters.sql import clock, control
from broker.core import lease
from broker.core.models import AccessTokenKey
from broker.ports import EndedToken
from tests.contract.backends import DATA_KEYS, EVENT, Backend, MemoryBackend, open_sql, put_grant
from tests.contract.test_access_tokens import LIFE, key, token
from tests.contract.test_redeem import consented_grant, sent
from tests.support.times import TIMES

AGAIN = 30_000


async def put_due(backend: Backend, cached: AccessTokenKey, *, left: int = LIFE, used: bool = True) -> None:
    """Store a token that is due at once, and let it be in use."""
    attempt = await backend.store.take_access(cached, "me", "key:x")
    assert attempt is not None
    assert await backend.store.put_access(replace(token(cached, attempt, remaining_ms=left), renew_ms=0))
    if used:
        await backend.store.note_used([cached])


async def test_when_a_token_is_to_be_renewed_is_read_back(backend: Backend) -> None:
    """What is left until then is counted down by the store's clock."""
    cached = key(await put_grant(backend.store, "a"), "read")
    await backend.store.put_access(replace(token(cached, 1), renew_ms=2_000_000))
    await backend.advance(600_000)
    found = (await backend.store.find_access_tokens([cached]))[cached]
    assert found.renew_ms is not None
    assert 1_390_000 < found.renew_ms <= 1_400_000


async def test_tokens_due_are_given_out_once(backend: Backend) -> None:
    """The soonest to end come first; what was given out is due again only later; all who ask at once share them."""
    grant_id = await put_grant(backend.store, "a")
    soon, later, undue = key(grant_id, "soon"), key(grant_id, "later"), key(grant_id, "undue")
    await put_due(backend, later)
    await put_due(backend, soon, left=LIFE - 60_000)
    await backend.store.put_access(replace(token(undue, 1), renew_ms=60_000))
    await backend.store.note_used([undue])
    found = await asyncio.gather(*(backend.store.due_tokens(1, AGAIN) for _ in range(4)))
    await backend.advance(AGAIN - 5_000)
    meanwhile = await backend.store.due_tokens(10, AGAIN)
    await backend.advance(5_001)
    again = await backend.store.due_tokens(10, AGAIN)
    due = [one for some in found for one in some]
    assert {("a", soon, "key:x"), ("a", later, "key:x")} == {(one.grant, one.key, one.asked_by) for one in due}
    assert (2, [], [soon, later]) == (len(due), meanwhile, [one.key for one in again])
    assert all(0 < one.remaining_ms <= LIFE for one in due)


async def test_only_tokens_in_use_are_renewed(backend: Backend) -> None:
    """Never handed out, handed out longer ago than its life, dead, of an older authorization or held: not renewed."""
    grant_id = await put_grant(backend.store, "a")
    other = await put_grant(backend.store, "b")
    used, unused, old_epoch = key(grant_id, "used"), key(grant_id, "unused"), key(grant_id, "used", epoch=2)
    await put_due(backend, used)
    await put_due(backend, unused, used=False)
    await put_due(backend, old_epoch)
    held, dead = key(other, "held"), key(grant_id, "dead")
    await put_due(backend, held)
    await put_due(backend, dead, left=-1)
    await backend.hold(other, "frozen")
    assert [used] == [one.key for one in await backend.store.due_tokens(10, 0)]
    await backend.store.put_access(replace(token(used, 9, remaining_ms=3 * LIFE), renew_ms=0))
    await backend.advance(LIFE + 1_000)
    assert [] == await backend.store.due_tokens(10, 0)
    await backend.store.note_used([])


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_young_clock_does_not_bring_tokens_into_use(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a host that started less than a token's life ago, too, one never handed out is not renewed."""
    a_minute = 60 * 10**9
    monkeypatch.setattr(clock, "time", SimpleNamespace(clock_gettime_ns=lambda _: a_minute, CLOCK_BOOTTIME=7))
    backend: Backend = MemoryBackend() if kind == "memory" else await open_sql(None, tmp_path)
    await backend.data_keys.add_first_data_keys(DATA_KEYS)
    grant_id = await put_grant(backend.store, "a")
    used, unused = key(grant_id, "used"), key(grant_id, "unused")
    await put_due(backend, used)
    await put_due(backend, unused, used=False)
    due = await backend.store.due_tokens(10, 0)
    await backend.aclose()
    assert [used] == [one.key for one in due]


async def test_a_lease_on_a_key_is_kept_by_beats(backend: Backend) -> None:
    """A beat extends the lease of the attempt it names, as long as it is one."""
    grant_id = await put_grant(backend.store, "a")
    kept, lost, free = key(grant_id, "kept"), key(grant_id, "lost"), key(grant_id, "free")
    for cached in (kept, lost, free):
        assert 1 == await backend.store.take_access(cached, "me", "key:x")
    await backend.store.release_access(free, 1)
    await backend.advance(TIMES.lease - 1_000)
    await backend.store.beat("me", "volume", [], [(kept, 1), (lost, 2), (free, 1)])
    await backend.advance(1_001)
    taken = [await backend.store.take_access(cached, "other", "key:x") for cached in (kept, lost, free)]
    assert [None, 2, 2] == taken


async def test_living_tokens_of_a_grant_are_listed(backend: Backend) -> None:
    """Of whatever scopes and epoch; dead ones and those of other grants are not."""
    grant_id = await put_grant(backend.store, "a")
    other = await put_grant(backend.store, "b")
    living = [key(grant_id, "read"), key(grant_id, "read", epoch=2)]
    for cached in (*living, key(other, "read")):
        await backend.store.put_access(token(cached, 1))
    await backend.store.put_access(token(key(grant_id, "trade"), 1, remaining_ms=-1))
    await backend.store.take_access(key(grant_id, "leased"), "me", "key:x")
    assert set(living) == {found.key for found in await backend.store.live_access_tokens(grant_id)}


@pytest.mark.parametrize("event", [lease.Freeze(), lease.Revoke()])
async def test_tokens_that_end_are_told(backend: Backend, event: lease.Freeze | lease.Revoke) -> None:
    """Every living token of a grant that is frozen or revoked, with the version it ended at; no other."""
    grant_id = await put_grant(backend.store, "a")
    other = await put_grant(backend.store, "b")
    for number, cached in enumerate((key(grant_id, "read"), key(grant_id, "trade"), key(other, "read"))):
        await backend.store.put_access(replace(token(cached, 1), fingerprint=f"f{number}"))
    await backend.store.put_access(replace(token(key(grant_id, "dead"), 1, remaining_ms=-1), fingerprint="dead"))
    same = replace(token(key(grant_id, "read", "trade"), 1), fingerprint="f0")
    await backend.store.put_access(same)
    since = await backend.store.read_version()
    await backend.store.hold(grant_id, event, EVENT)
    told = await backend.store.ended_since(since, 10)
    assert told is not None
    assert [(since + 1, "a", "f0"), (since + 1, "a", "f1")] == [
        (ended.version, ended.grant, ended.fingerprint) for ended in told
    ]
    assert EndedToken(since + 1, "a", "f1", ("trade",)) == told[1]
    assert (None, []) == (
        await backend.store.ended_since(since, 1),
        await backend.store.ended_since(since + 1, 10),
    )


async def test_letting_go_ends_no_token(backend: Backend) -> None:
    """Unfreezing tells of none."""
    grant_id = await put_grant(backend.store, "a")
    await backend.store.put_access(token(key(grant_id, "read"), 1))
    await backend.hold(grant_id, "frozen")
    since = await backend.store.read_version()
    await backend.store.hold(grant_id, lease.Unfreeze(), EVENT)
    assert [] == await backend.store.ended_since(since, 10)


async def test_a_landing_that_kills_tells_of_what_it_killed(backend: Backend) -> None:
    """Announced, it ends the tokens there were; the one it brings comes after and lives."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    older, newer = key(grant_id, "read", epoch=2), key(grant_id, "trade", epoch=2)
    await backend.store.put_access(replace(token(older, 1), fingerprint="older"))
    since = await backend.store.read_version()
    land = lease.Land(state.attempt, state.generation, state.consent, "t1")
    await backend.store.keep_and_land(grant_id, land, token(older, 1).sealed, EVENT, announce=True)
    await backend.store.finish(grant_id, lease.Finish(state.attempt), token(newer, state.attempt), "key:x")
    told = await backend.store.ended_since(since, 10)
    assert told is not None
    assert ["older"] == [ended.fingerprint for ended in told]
    assert {newer} == set(await backend.store.find_access_tokens([older, newer]))


async def test_a_refresh_that_kills_without_rotating_tells_too(backend: Backend) -> None:
    """A reply without a new refresh token ends the older access tokens as well, where that is announced."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    older = key(grant_id, "read", epoch=2)
    await backend.store.put_access(replace(token(older, 1), fingerprint="older"))
    since = await backend.store.read_version()
    stale = lease.NotRotated(state.attempt - 1)
    assert None is await backend.store.apply(grant_id, stale, announce=True)
    assert since == await backend.store.read_version()
    await backend.store.apply(grant_id, lease.NotRotated(state.attempt), announce=True)
    told = await backend.store.ended_since(since, 10)
    assert told is not None
    assert ([(since + 1, "older")], {}) == (
        [(ended.version, ended.fingerprint) for ended in told],
        await backend.store.find_access_tokens([older]),
    )
    assert since + 1 == await backend.store.read_version()


async def test_what_ended_long_ago_is_not_told(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fell behind further than is remembered drops all; nobody is told too little."""
    monkeypatch.setattr(control, "CHANGES_KEPT", 2)
    monkeypatch.setattr(base, "CHANGES_KEPT", 2)
    grant_id = await put_grant(backend.store, "a")
    await backend.store.put_access(token(key(grant_id, "read"), 1))
    since = await backend.store.read_version()
    await backend.store.hold(grant_id, lease.Freeze(), EVENT)
    for _ in range(2):
        await put_grant(backend.store, "b")
    assert (None, []) == (
        await backend.store.ended_since(since, 10),
        await backend.store.ended_since(since + 1, 10),
    )


async def test_a_finish_said_twice_finds_the_lease_it_took(backend: Backend) -> None:
    """Whoever finished, took the grant again and did not hear so, hears it when it says so again."""
    grant_id = await consented_grant(backend)
    state = await sent(backend, grant_id)
    await backend.store.apply(grant_id, lease.NotRotated(state.attempt))
    finish = lease.Finish(state.attempt, "me")
    first = await backend.store.finish(grant_id, finish, None, "")
    again = await backend.store.finish(grant_id, finish, None, "")
    others = await backend.store.finish(grant_id, replace(finish, again="other"), None, "")
    assert first is not None
    assert (first, None) == (None if again is None else replace(again, tokens=first.tokens), others)


async def test_a_key_may_be_longer_than_an_index_takes(backend: Backend) -> None:
    """The longest scopes a request may name, and as long a resource, are a key like any other."""
    long = tuple(sorted(f"scope-{number:02}-{'x' * 240}" for number in range(32)))
    cached = replace(key(await put_grant(backend.store, "a"), *long), resource="https://api.example/" + "r" * 2_000)
    assert 1 == await backend.store.take_access(cached, "me", "key:x")
    assert await backend.store.put_access(token(cached, 1))
    assert {cached} == set(await backend.store.find_access_tokens([cached]))
