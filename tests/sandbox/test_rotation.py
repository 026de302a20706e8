"""Spent refresh tokens: what each rotation mode makes of them, and what counts as a reuse."""

from __future__ import annotations

import pytest

from tests.sandbox.requests import refresh
from tests.support.sandbox import FakeClock, SandboxDriver

GRACE_MODES = ["same", "siblings", "last_wins"]


async def redeemed(sandbox: SandboxDriver, token: str) -> str:
    """Return the refresh token that this one gives."""
    return str((await refresh(sandbox, token)).json()["refresh_token"])


async def statuses(sandbox: SandboxDriver, *tokens: str) -> list[int]:
    """Return how each of these is answered, one after the other."""
    return [(await refresh(sandbox, token)).status_code for token in tokens]


async def reuses(sandbox: SandboxDriver) -> tuple[int, int]:
    """Return how many reuses there were, and how many families they ended."""
    counters = await sandbox.counters()
    return counters["reuses"], counters["families_ended"]


async def test_reuse_kills_the_family(sandbox: SandboxDriver) -> None:
    """A used refresh token is refused, and so is every descendant from then on."""
    old = await sandbox.refresh_token()
    new = await redeemed(sandbox, old)
    errors = [(await refresh(sandbox, token)).json()["error"] for token in (old, new)]
    assert ["invalid_grant", "invalid_grant"] == errors


async def test_a_family_ends_once_and_every_reuse_is_counted(sandbox: SandboxDriver) -> None:
    """Each spent token presented is a reuse; only the first ends the family, and its live token is no reuse."""
    first = await sandbox.refresh_token()
    second = await redeemed(sandbox, first)
    third = await redeemed(sandbox, second)
    assert [400] * 4 == await statuses(sandbox, first, second, first, third)
    assert (3, 1) == await reuses(sandbox)
    await sandbox.reset()
    assert (0, 0) == await reuses(sandbox)


async def test_a_spent_token_past_its_life_is_still_a_reuse(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """The sandbox forgets no spent token; one that only expired was not reused."""
    spent, unused = [await sandbox.refresh_token(lifetime_seconds=10) for _ in range(2)]
    await redeemed(sandbox, spent)
    clock.advance(10)
    assert [400, 400] == await statuses(sandbox, spent, unused)
    assert (1, 1) == await reuses(sandbox)


async def test_without_reuse_detection_the_family_lives(sandbox: SandboxDriver) -> None:
    """A reuse is refused and counted, and its descendants work on."""
    await sandbox.behave(reuse_detection=False)
    old = await sandbox.refresh_token()
    new = await redeemed(sandbox, old)
    assert [400, 400, 200] == await statuses(sandbox, old, old, new)
    assert (2, 0) == await reuses(sandbox)


async def test_same_gives_one_successor(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """In its grace a spent token gives its successor again, also when that is spent itself."""
    await sandbox.behave(rotation="same", grace_seconds=30)
    old = await sandbox.refresh_token()
    first = await redeemed(sandbox, old)
    clock.advance(29)
    assert first == await redeemed(sandbox, old)
    second = await redeemed(sandbox, first)
    assert (first, second) == (await redeemed(sandbox, old), await redeemed(sandbox, first))
    assert (0, 0) == await reuses(sandbox)


async def test_siblings_are_all_live(sandbox: SandboxDriver) -> None:
    """In its grace a spent token gives one more new token each time, and each works."""
    await sandbox.behave(rotation="siblings")
    old = await sandbox.refresh_token()
    siblings = [await redeemed(sandbox, old) for _ in range(3)]
    assert 3 == len({*siblings})
    assert [200] * 3 == await statuses(sandbox, *siblings)
    assert (0, 0) == await reuses(sandbox)


async def test_the_last_successor_wins(sandbox: SandboxDriver) -> None:
    """In its grace a spent token gives a new token each time; the earlier ones are refused without ending the last."""
    await sandbox.behave(rotation="last_wins")
    old = await sandbox.refresh_token()
    first, second, third = [await redeemed(sandbox, old) for _ in range(3)]
    assert [400, 400, 200] == await statuses(sandbox, first, second, third)
    assert (0, 0) == await reuses(sandbox)


async def test_the_last_successor_wins_over_a_whole_chain(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """A replay ends all that descends from the earlier successor, spent or live, in its grace or past it."""
    await sandbox.behave(rotation="last_wins", grace_seconds=30)
    old = await sandbox.refresh_token()
    second = await redeemed(sandbox, old)
    third = await redeemed(sandbox, second)
    fourth = await redeemed(sandbox, third)
    last = await redeemed(sandbox, old)
    assert [400] * 3 == await statuses(sandbox, second, third, fourth)
    clock.advance(31)
    await sandbox.behave(rotation="rotate")
    assert [400] * 3 == await statuses(sandbox, second, third, fourth)
    assert (0, 0) == await reuses(sandbox)
    assert [200] == await statuses(sandbox, last)


async def test_a_replay_further_down_leaves_the_line_above(sandbox: SandboxDriver) -> None:
    """The replay of a successor ends what came of it, and not what it came from."""
    await sandbox.behave(rotation="last_wins")
    old = await sandbox.refresh_token()
    second = await redeemed(sandbox, old)
    third = await redeemed(sandbox, second)
    last = await redeemed(sandbox, second)
    assert [400, 200, 200] == await statuses(sandbox, third, last, second)


@pytest.mark.parametrize("rotation", GRACE_MODES)
async def test_after_the_grace_a_reuse_is_a_reuse(sandbox: SandboxDriver, clock: FakeClock, rotation: str) -> None:
    """The grace counts from the first use, not from the last; after it a reuse ends the family."""
    await sandbox.behave(rotation=rotation, grace_seconds=30)
    old = await sandbox.refresh_token()
    await redeemed(sandbox, old)
    clock.advance(29)
    last = await redeemed(sandbox, old)
    clock.advance(1)
    assert [400, 400] == await statuses(sandbox, old, last)
    assert (1, 1) == await reuses(sandbox)


@pytest.mark.parametrize("rotation", GRACE_MODES)
async def test_without_a_grace_every_reuse_is_one(sandbox: SandboxDriver, rotation: str) -> None:
    """A grace of no length makes each of these modes strict."""
    await sandbox.behave(rotation=rotation, grace_seconds=0)
    old = await sandbox.refresh_token()
    last = await redeemed(sandbox, old)
    assert [400, 400] == await statuses(sandbox, old, last)
    assert (1, 1) == await reuses(sandbox)
