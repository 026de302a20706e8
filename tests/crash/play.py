"""One row of the matrix: grants are got ready, their broker dies as the story tells, and its successor has to serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from aries_broker.errors import BrokerError
from broker.sandbox.behaviour import RotationMode
from tests.crash.lives import AGAIN, PATIENCE, Lives, persist
from tests.crash.stories import ANSWERED, BY_HAND, TOLD, UNREAD, Death, Story
from tests.support.waiting import until, until_told
from tests.support.world import Desk

LOST: Final = "the grant changed hands at the provider and nobody could keep what it gave"


@dataclass(frozen=True)
class Verdict:
    """What became of a grant.

    Attributes:
        found: recovered, revoked, re-login, or what stands in the way.
        ours: it was lost, or reused, though the provider's rules allow more.
        why: the protocol's reason for a re-login.
    """

    found: str
    ours: bool
    why: str = ""


@dataclass
class Grant:
    """A grant of one row: whoever uses it, what they got, and how often its sandbox had been called before."""

    desk: Desk
    calls: int = 0
    reuses: int = 0
    got: list[str] = field(default_factory=list)


async def play(lives: Lives, story: Story, modes: Sequence[RotationMode]) -> Mapping[RotationMode, Verdict]:
    """Play a story once for grants of several modes at the same time."""
    grants = {mode: await _ready(lives, mode) for mode in modes}
    unkept = story.unkept
    await _arm(lives, story.deaths[0], grants)
    for death, following in zip_longest(story.deaths, story.deaths[1:]):
        if death.at_start:
            await lives.start_and_die(death.volume)
        else:
            await _die(lives, story, death, grants)
        unkept = story.unkept and lives.journal_is_empty(death.volume)
        await _arm(lives, following, grants)
        if following is None or not following.at_start:
            await lives.start(0 if following is None else following.volume)
            for mode, grant in grants.items():
                grant.desk.world = lives.worlds[mode]
    judge = _judge_revoked if story.revoke else _judge
    verdicts = await asyncio.gather(*(judge(mode, grant, unkept) for mode, grant in grants.items()))
    return dict(zip(grants, verdicts, strict=True))


async def _ready(lives: Lives, mode: RotationMode) -> Grant:
    desk = await persist(lambda: lives.worlds[mode].desk("refresh_token", scopes=["read"], provider=mode))
    return Grant(desk, reuses=desk.world.sandbox.running.state.counters.reuses)


# --- dying -----------------------------------------------------------------------------------------------------------


async def _arm(lives: Lives, death: Death | None, grants: Mapping[RotationMode, Grant]) -> None:
    """Make sure that the process of now, or the next, ends there."""
    by_itself = death is not None and death.point not in BY_HAND
    lives.die_at(death.point if death is not None and by_itself else "", len(grants))
    for grant in grants.values():
        sandbox = grant.desk.world.sandbox
        await sandbox.clear_failures()
        grant.calls = sandbox.running.state.counters.token_calls
        if death is not None and death.point == UNREAD:
            await sandbox.fail(body="hang", when="before")
        if death is not None and death.point == ANSWERED:
            await sandbox.fail(body="true", when="after", delay_seconds=PATIENCE)


async def _die(lives: Lives, story: Story, death: Death, grants: Mapping[RotationMode, Grant]) -> None:
    work = _revoke if story.revoke else _get
    running = [asyncio.create_task(_until_dead(lives, work, grant)) for grant in grants.values()]
    try:
        async with asyncio.timeout(PATIENCE):
            if death.point in BY_HAND:
                await until(lambda: all(_came(death, grant) for grant in grants.values()))
                lives.process.process.kill()
            await lives.died()
    except TimeoutError:
        message = f"{story.name}: the broker did not come to {death.point}"
        raise AssertionError(message) from None
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _came(death: Death, grant: Grant) -> bool:
    if death.point == TOLD:
        return bool(grant.got)
    return grant.desk.world.sandbox.running.state.counters.token_calls > grant.calls


async def _until_dead(lives: Lives, work: Callable[[Grant], Awaitable[object]], grant: Grant) -> None:
    """Want something again and again: the first try may come too early, such as while a lease lives."""

    async def wanted() -> bool:
        try:
            await work(grant)
        except BrokerError:
            return lives.process.process.returncode is not None
        return True

    await until_told(wanted, AGAIN, PATIENCE)


async def _get(grant: Grant) -> None:
    token = await grant.desk.get("account:information")
    grant.got.append(token.fingerprint)


async def _revoke(grant: Grant) -> None:
    await grant.desk.revoke()


# --- what is left ----------------------------------------------------------------------------------------------------


async def _judge(mode: RotationMode, grant: Grant, unkept: bool) -> Verdict:
    """Get the same token, then another: both scope sets have to be served, the second by one more redeem."""
    allowed = not unkept or mode is not RotationMode.ROTATE
    found = await _served(grant)
    reuses = grant.desk.world.sandbox.running.state.counters.reuses - grant.reuses
    if found != "recovered":
        lost = allowed or reuses > 1
        return Verdict(found if lost else "re-login", lost, "" if lost else LOST)
    if reuses or not allowed:
        return Verdict(f"recovered, {reuses} reuses", ours=True)
    issued = [event.fields.get("fingerprint") for event in await grant.desk.world.events(f"key:{grant.desk.caller}")]
    unaudited = set(grant.got) - set(issued)
    return Verdict("a token without its audit event", ours=True) if unaudited else Verdict("recovered", ours=False)


async def _served(grant: Grant) -> str:
    for scope in ("account:information", "order:information"):
        refused = ""

        async def ended(scope: str = scope) -> bool:
            nonlocal refused
            try:
                grant.got.append((await grant.desk.get(scope)).fingerprint)
                refused = ""
            except BrokerError as error:
                refused = error.reason
            return refused in {"", "GRANT_QUARANTINED"}

        with suppress(TimeoutError):
            await until_told(ended, AGAIN, PATIENCE)
        if refused:
            return refused
    return "recovered"


async def _judge_revoked(mode: RotationMode, grant: Grant, unkept: bool) -> Verdict:
    """Revoke again, as an operator would whose call was cut; nothing of the grant may be left, here or there."""
    del mode, unkept
    hold = ""

    async def revoked() -> bool:
        nonlocal hold
        with suppress(BrokerError):  # it is revoked already
            await grant.desk.revoke()
        hold = (await grant.desk.world.grant_status(grant.desk.grant)).grant.hold
        return hold == "revoked"

    with suppress(TimeoutError):
        await until_told(revoked, AGAIN, PATIENCE)
    refused = (await grant.desk.refused("account:information")).reason
    tokens = await grant.desk.world.sandbox.refresh_tokens()
    family = next(token["family"] for token in tokens if token["token"] == grant.desk.consented)
    left = sum(token["live"] for token in tokens if token["family"] == family)
    ended = (hold, left, refused) == ("revoked", 0, "GRANT_HELD")
    return Verdict("revoked" if ended else f"{hold}, {left} live, {refused}", ours=not ended)
