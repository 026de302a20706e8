"""The process's heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from broker.core.errors import StoreUnavailableError
from broker.core.models import AccessTokenKey
from broker.flows.heart import Heart
from tests.flows.world import ManualClock
from tests.support.waiting import until

KEY = AccessTokenKey("g2", 1, "c1:app", ("order:execution",))


class Replicas:
    """The port ReplicaStore; notes each beat.

    Attributes:
        beats: the grants' leases and the keys' leases in each beat that was taken.
        tried: beats; away: none is taken.
    """

    def __init__(self) -> None:
        self.beats: list[tuple[list[tuple[str, int]], list[tuple[AccessTokenKey, int]]]] = []
        self.tried = 0
        self.away = False

    async def beat(
        self,
        owner: str,
        volume: str,
        leases: Sequence[tuple[str, int]],
        access_leases: Sequence[tuple[AccessTokenKey, int]],
    ) -> None:
        await asyncio.sleep(0)
        self.tried += 1
        assert ("me", "volume-1") == (owner, volume)
        if self.away:
            raise StoreUnavailableError("away", cause="connection")
        self.beats.append((list(leases), list(access_leases)))

    async def drained(self, owner: str) -> None:
        raise NotImplementedError


@pytest.fixture
def replicas() -> Replicas:
    """Where the beats go."""
    return Replicas()


def heart_of(replicas: Replicas, clock: ManualClock, every: float = 5.0) -> Heart:
    """Return a heart."""
    return Heart(replicas=replicas, clock=clock, owner="me", volume="volume-1", every=every)


async def test_one_beat_holds_all_leases(replicas: Replicas) -> None:
    """Of grants and of keys, each as long as its redeem runs, however that ends."""
    heart = heart_of(replicas, ManualClock())

    async def fail_under_lease() -> None:
        with heart.keeping("g1", 7), heart.keeping("g3", 1), heart.keeping_key(KEY, 4):
            await heart.beat()
            raise KeyError

    with pytest.raises(KeyError):
        await fail_under_lease()
    await heart.beat()
    assert [([("g1", 7), ("g3", 1)], [(KEY, 4)]), ([], [])] == replicas.beats


async def test_a_later_lease_is_not_ended_by_an_earlier_one(replicas: Replicas) -> None:
    """The grant taken again while the first lease's block still ends: the beat holds the newer attempt."""
    heart = heart_of(replicas, ManualClock())
    first, first_key = heart.keeping("g1", 7), heart.keeping_key(KEY, 4)
    first.__enter__()
    first_key.__enter__()
    with heart.keeping("g1", 8), heart.keeping_key(KEY, 5):
        first.__exit__(None, None, None)
        first_key.__exit__(None, None, None)
        await heart.beat()
    assert [([("g1", 8)], [(KEY, 5)])] == replicas.beats


async def test_how_long_the_store_has_been_up(replicas: Replicas) -> None:
    """Since the first beat of those taken one after the other; one that is not taken begins it anew."""
    clock = ManualClock()
    heart = heart_of(replicas, clock)
    seen = [heart.up_for()]
    for away in (False, False, True, False, False):
        replicas.away = away
        clock.advance(5)
        try:
            await heart.beat()
        except StoreUnavailableError:
            assert away
        seen.append(heart.up_for())
    clock.advance(5)
    assert [0, 0, 5, 0, 0, 5, 10] == [*seen, heart.up_for()]


async def test_the_heart_beats_on(replicas: Replicas) -> None:
    """A store that is away misses beats; the next is taken when it is back."""
    heart = heart_of(replicas, ManualClock(), every=0.001)
    replicas.away = True
    beating = asyncio.create_task(heart.beat_for_ever())
    await until(lambda: replicas.tried > 2)
    assert [] == replicas.beats
    replicas.away = False
    await until(lambda: len(replicas.beats) > 1)
    beating.cancel()
