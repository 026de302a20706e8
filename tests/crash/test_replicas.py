"""Three brokers on one PostgreSQL: one call for all who want a grant, and an owner that is paused past its lease."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.crash.lives import AGAIN, WINDOW
from tests.crash.replicas import Replicas, herd, probes_in, replicas
from tests.crash.stopping import Stop, stop, stop_inside_a_transaction
from tests.support.postgres import PostgresServer
from tests.support.waiting import until, until_told
from tests.support.world import BrokerError, Desk

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def three(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    """Three brokers, whose leases last a second."""
    async with replicas(tmp_path_factory.mktemp("three"), postgres, 3) as every:
        yield every


async def test_a_herd_makes_one_call(three: Replicas) -> None:
    """Hundreds of callers at three brokers, one grant whose token has ended: one redeem, and everybody is answered."""
    desk = await three.expired_grant()
    before = (await three.sandbox.counters())["token_calls"]
    answers = await herd(three, desk, 210)
    assert (1, 210) == (len(answers), answers.total())
    assert before + 1 == (await three.sandbox.counters())["token_calls"]
    assert [2] == [answer.count(".") for answer in answers]  # a token, no reason


@pytest.mark.crash
@pytest.mark.parametrize("stop", [stop, stop_inside_a_transaction], ids=["anywhere", "inside a transaction"])
async def test_a_paused_owner_comes_back(three: Replicas, stop: Stop) -> None:
    """Whoever finds its lease over doubts the grant and sends nothing; the owner's late token is kept, and serves.

    Also where it was paused with the grant's row locked, of which the server frees it.
    """
    owner, other, spent = await _paused(three, stop=stop)
    calls, late = (await three.sandbox.counters())["token_calls"], await _newest_attempt(other)
    assert "GRANT_UNCERTAIN" == (await _after_the_lease(other)).reason
    _resume(owner)
    await until_told(lambda: _has_landed(other, late), AGAIN)  # who asks before may redeem it again: its lease is over
    await until_told(lambda: _gets(other, "account:information"), AGAIN)
    assert calls == (await three.sandbox.counters())["token_calls"]
    await until_told(lambda: _gets(other, "order:information"), AGAIN)  # by the late token
    assert spent == await _spent(three)


@pytest.mark.crash
async def test_a_paused_owner_whose_grant_was_replayed(three: Replicas) -> None:
    """Within the provider's window another replica goes on; the late sibling is kept beside it and burns nothing."""
    await three.sandbox.behave(rotation="siblings", grace_seconds=WINDOW)
    owner, other, spent = await _paused(three, "windowed")
    late = await _newest_attempt(other)
    await until_told(lambda: _gets(other, "account:information"), AGAIN)
    tokens = len(await three.sandbox.refresh_tokens())
    _resume(owner)
    await until_told(lambda: _has_landed(other, late), AGAIN)
    await until_told(lambda: _gets(other, "order:information"), AGAIN)
    await until_told(lambda: _gets(owner, "position:information"), AGAIN)
    assert tokens + 2 == len(await three.sandbox.refresh_tokens())
    assert spent == await _spent(three)
    await three.sandbox.behave(rotation="rotate")


@pytest.mark.crash
async def test_a_paused_owner_whose_grant_was_revoked(three: Replicas) -> None:
    """The late token is told to the provider and wiped: nothing of the grant lives there or here."""
    owner, other, spent = await _paused(three)
    await _after_the_lease(other)
    await other.revoke()

    async def revoked() -> bool:
        return (await other.world.grant_status(other.grant)).grant.hold == "revoked"

    await until_told(revoked, AGAIN)
    told = (await three.sandbox.counters())["revocations"]["calls"]
    _resume(owner)

    async def late_token_told() -> bool:
        return bool((await three.sandbox.counters())["revocations"]["calls"] > told)

    await until_told(late_token_told, AGAIN)
    live = [token for token in await three.sandbox.refresh_tokens() if token["live"]]
    family = (await three.sandbox.refresh_tokens())[-1]["family"]
    assert [] == [token for token in live if token["family"] == family]
    assert "GRANT_HELD" == (await other.refused("account:information")).reason
    assert spent == await _spent(three)


async def test_what_counts_as_a_probe() -> None:
    """A send long after one that nobody told the end of, and nothing else."""
    assert 1 == probes_in([("refused", 9000), ("", 1000), ("landed", 500)])
    assert 0 == probes_in([("landed", 9000), ("not_sent", 1000), ("landed", 500)])
    assert 0 == probes_in([("landed", 1100), ("", 1000)])


async def _paused(three: Replicas, name: str = "strict", stop: Stop = stop) -> tuple[Desk, Desk, dict[str, int]]:
    """Stop a broker that the provider has answered and that has not heard it; return the grant at it and at another."""
    desk = await three.expired_grant(name)
    owner, other = three.at(1, desk), three.at(2, desk)
    spent = await _spent(three)
    three.line.hold()
    _waits.append(asyncio.create_task(owner.world.outcome(owner.get("account:information"))))
    await until(three.line.answered.is_set)
    await asyncio.to_thread(stop, owner.world.process.process.pid, three.env["BROKER_DATABASE_URL"])
    three.line.release()
    assert ("sent", "ok") == await other.state()
    return owner, other, spent


_waits: list[asyncio.Task[object]] = []


def _resume(owner: Desk) -> None:
    owner.world.process.process.send_signal(signal.SIGCONT)


async def _after_the_lease(desk: Desk) -> BrokerError:
    """Ask until the owner's lease is over; return what is answered then."""

    async def doubted() -> bool:
        await desk.world.outcome(desk.get("account:information", deadline=1.0))
        return await desk.state() == ("unknown", "ok")

    await until_told(doubted, AGAIN)
    return await desk.refused("account:information")


async def _gets(desk: Desk, scope: str) -> bool:
    return await desk.world.outcome(desk.get(scope)) is None


async def _newest_attempt(desk: Desk) -> int:
    return (await desk.world.grant_status(desk.grant)).attempts[0].attempt


async def _has_landed(desk: Desk, number: int) -> bool:
    """Tell whether an attempt's owner has noted that it has the new token."""
    history = (await desk.world.grant_status(desk.grant)).attempts
    return "landed" in [attempt.outcome for attempt in history if attempt.attempt == number]


async def _spent(three: Replicas) -> dict[str, int]:
    counters = await three.sandbox.counters()
    return {name: counters[name] for name in ("reuses", "families_ended")}
