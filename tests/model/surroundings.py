"""What may happen next around the processes: the provider, the database, clocks, operators, people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from broker.core import lease
from broker.core.grant_state import Phase, lease_over
from tests.model.invariants import broken_by_answer, ending_token
from tests.model.provider import consent, present, revoke
from tests.model.world import Model, Move, World, changed, is_worked_on, told


def provider_moves(model: Model, world: World) -> Iterator[Move]:
    """Return what the provider may do next."""
    for number, process in enumerate(world.processes):
        if not process.request:
            continue
        provider, answer = present(world.provider, model.mode, process.token)
        answered = process._replace(request=False, answer=answer)
        yield Move(
            f"provider answers {number} on token {process.token}: {told(answer)}",
            changed(world._replace(provider=provider), number, answered),
            broken_by_answer(world, process.token, answer, probe=process.probe),
        )
        if world.budget.unread:
            budget = world.budget._replace(unread=world.budget.unread - 1)
            unread = process._replace(request=False, doing="received", unread=True)
            yield Move(
                f"provider answers {number} without reading", changed(world._replace(budget=budget), number, unread)
            )
    for request in world.orphans:
        rest = world._replace(orphans=world.orphans - {request})
        provider, answer = present(world.provider, model.mode, request.token)
        yield Move(
            f"provider handles an orphan of token {request.token}: {told(answer)}",
            rest._replace(provider=provider),
            broken_by_answer(world, request.token, answer, probe=request.probe),
        )
        yield Move(f"an orphan of token {request.token} is lost", rest)
    for token in world.provider.window:
        ours = str(token) == world.grant.current and world.grant.replay_until == 1
        flying = any(request.token == token for request in world.orphans)
        sent = any(
            process.token == token and (process.doing == "waiting" or process.fresh) for process in world.processes
        )
        if not (ours or flying or sent):
            provider = world.provider._replace(window=world.provider.window - {token})
            yield Move(f"provider's window of token {token} ends", world._replace(provider=provider))


def surrounding_moves(world: World) -> Iterator[Move]:
    """Return what the database and clocks may do next."""
    budget = world.budget
    if world.up and budget.outages:
        yield Move(
            "the database goes away", world._replace(up=False, budget=budget._replace(outages=budget.outages - 1))
        )
    if not world.up:
        yield Move("the database is back", world._replace(up=True))
    leased = world.grant.phase in {Phase.PREPARED, Phase.SENT, Phase.LANDED} and not lease_over(world.grant, 0)
    if leased:
        over = replace(world.grant, lease_until=0)
        if budget.lease_ends and is_worked_on(world):
            fewer = budget._replace(lease_ends=budget.lease_ends - 1)
            paused = tuple(
                process._replace(fresh=process.fresh and process.attempt != world.grant.attempt)
                for process in world.processes
            )
            yield Move(
                "the lease ends while its owner is paused",
                world._replace(grant=over, budget=fewer, processes=paused),
            )
        if not is_worked_on(world):
            yield Move("the lease of an owner that is gone ends", world._replace(grant=over))
    if world.grant.replay_until == 1:
        yield Move("our replay window ends", world._replace(grant=replace(world.grant, replay_until=0)))


def operator_moves(model: Model, world: World) -> Iterator[Move]:
    """Return what operators and people may do next."""
    budget = world.budget
    if not world.up:
        return
    if budget.revokes:
        after = model.steps(world.grant, lease.Revoke())
        if after is not None:
            fewer = budget._replace(revokes=budget.revokes - 1)
            yield Move("an operator revokes", world._replace(grant=after, budget=fewer))
    if budget.consents:
        provider, token = consent(world.provider)
        after = model.steps(world.grant, lease.Consented(str(token)))
        if after is not None:
            fewer = budget._replace(consents=budget.consents - 1)
            moved = world._replace(grant=after, provider=provider, budget=fewer, received=world.received | {token})
            yield Move(f"a person logs in anew: token {token}", moved)


def cleaning_moves(model: Model, world: World) -> Iterator[Move]:
    """Tell the provider of tokens that must end, newest first, and see that nothing is left."""
    if not world.up or not any(process.doing != "down" for process in world.processes):
        return
    ending = ending_token(model, world.grant)
    if ending is not None:
        after_word = model.steps(world.grant, lease.TokenRevoked(ending.fingerprint)) or world.grant
        provider = revoke(world.provider, int(ending.fingerprint))
        yield Move(
            f"the provider is told that token {ending.fingerprint} ends",
            world._replace(grant=after_word, provider=provider),
        )
    after = model.steps(world.grant, lease.Revoked())
    if after is not None:
        yield Move("nothing is left", world._replace(grant=after))
