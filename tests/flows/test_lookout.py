from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from broker.core.errors import StoreUnavailableError
from broker.core.models import AccessTokenKey
from broker.core.sealing import Sealed
from broker.flows import lookout
from broker.flows.lookout import Lookout
from broker.ports import StoredAccessToken
from tests.flows.world import ManualClock
from tests.support.waiting import ENOUGH, until

KEYS = [AccessTokenKey(f"g{number}", 1, "c1:app", ("a",)) for number in range(3)]


class Store:
    """One method of the store; tokens appear when a test puts their keys in `there`."""

    def __init__(self) -> None:
        self.polls: list[set[AccessTokenKey]] = []
        self.there: set[AccessTokenKey] = set()
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0

    async def find_access_tokens(self, keys: list[AccessTokenKey]) -> dict[AccessTokenKey, StoredAccessToken]:
        self.polls.append(set(keys))
        self.running += 1
        assert self.running == 1
        await self.gate.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error
        return {
            key: StoredAccessToken(
                key=key,
                attempt=1,
                sealed=Sealed("k", b""),
                fingerprint="f",
                granted=("a",),
                verified=True,
                life_ms=1,
                remaining_ms=1,
                renew_ms=None,
                lifetime_assumed=False,
            )
            for key in keys
            if key in self.there
        }


@pytest.fixture
def store() -> Store:
    """A store that has nothing yet."""
    return Store()


@pytest.fixture
def watch(store: Store) -> Lookout:
    """A look-out over that store."""
    grants: Any = store
    return Lookout(grants, ManualClock(), Random(1))


async def test_all_keys_awaited_go_into_one_poll(store: Store, watch: Lookout) -> None:
    """Found tokens come with the moment before the poll, the others as None."""
    store.there = {KEYS[0]}
    seen = await asyncio.gather(*(watch.look(key) for key in KEYS))
    assert [set(KEYS)] == store.polls
    assert [(KEYS[0], 1000.0), None, None] == [one and (one[0].key, one[1]) for one in seen]


async def test_key_that_comes_during_a_poll_is_polled_next(store: Store, watch: Lookout) -> None:
    """Nobody else has to ask again for it; two polls are never under way at once."""
    store.there = set(KEYS)
    store.gate.clear()
    first = asyncio.create_task(watch.look(KEYS[0]))
    await until(lambda: len(store.polls) == 1)
    second = asyncio.create_task(watch.look(KEYS[1]))
    await until(lambda: KEYS[1] in watch._awaited)
    store.gate.set()
    async with asyncio.timeout(ENOUGH):
        assert (await first) is not None
        assert (await second) is not None
    assert [{KEYS[0]}, {KEYS[1]}] == store.polls


async def test_pace_slows_down_and_starts_afresh_for_a_new_key(
    store: Store, watch: Lookout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polls for the same keys come ever slower, to a bound; a key that is new quickens them."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(lookout, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(lookout, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr("broker.flows.lookout.asyncio.sleep", note)
    for _ in range(9):
        await watch.look(KEYS[0])
    expected = [min(0.2, 0.02 * 1.5**number) for number in range(9)]
    assert all(0.8 * want <= pause <= 1.2 * want for want, pause in zip(expected, pauses, strict=True))
    assert len(set(pauses)) == 9
    await asyncio.gather(watch.look(KEYS[0]), watch.look(KEYS[1]))
    assert pauses[-1] <= 0.024


async def test_failed_poll_is_told_to_each_and_the_next_works(store: Store, watch: Lookout) -> None:
    """Waiters get an error of their own; a waiter that hung up leaves no warning."""
    store.error = StoreUnavailableError("away")
    gone = asyncio.create_task(watch.look(KEYS[2]))
    await asyncio.sleep(0)
    gone.cancel()
    errors = await asyncio.gather(watch.look(KEYS[0]), watch.look(KEYS[1]), return_exceptions=True)
    assert [StoreUnavailableError] * 2 == [type(caught) for caught in errors]
    assert errors[0] is not errors[1]
    store.error = None
    assert (await watch.look(KEYS[0])) is None


async def test_bug_of_the_store_reaches_who_waits(store: Store, watch: Lookout) -> None:
    """Nobody waits for ever because a poll ended in a way it must not."""
    store.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await watch.look(KEYS[0])


async def test_two_waiters_of_one_key_share_a_poll(store: Store, watch: Lookout) -> None:
    """A key is asked for once however many await it."""
    store.there = {KEYS[0]}
    seen = await asyncio.gather(watch.look(KEYS[0]), watch.look(KEYS[0]))
    assert seen[0] is seen[1]
