"""What a broker process may do next: begin, send, store what came, and go down."""

from __future__ import annotations

from collections.abc import Iterator

from broker.core import lease
from broker.core.grant_state import GrantState, Hold, Phase
from tests.model.provider import WINDOWED
from tests.model.world import (
    Entry,
    Model,
    Move,
    Process,
    Request,
    World,
    changed,
    entries,
    idle,
    is_kept,
    owner_of,
    told,
)


def process_moves(model: Model, world: World, number: int) -> Iterator[Move]:
    """Return what one process may do next."""
    process = world.processes[number]
    if process.doing == "down":
        yield Move(
            f"{number} starts", changed(world, number, Process(process.incarnation + 1, journal=process.journal))
        )
        return
    if world.budget.crashes:
        yield Move(f"{number} crashes", _crashed(model, world, number))
    if process.doing == "idle":
        yield from _begin(model, world, number)
        yield from _drain(model, world, number)
    elif process.doing == "prepared":
        yield from _prepared(model, world, number)
    elif process.doing == "licensed":
        yield from _licensed(model, world, number)
    elif process.doing == "waiting":
        yield from _waiting(model, world, number)
    elif process.doing == "received":
        yield from _received(model, world, number)
    elif process.doing == "landed" and world.up:
        finished = model.steps(world.grant, lease.Finish(process.attempt)) or world.grant
        yield Move(f"{number} finishes", changed(world._replace(grant=finished), number, idle(process)))


def _begin(model: Model, world: World, number: int) -> Iterator[Move]:
    if not world.up:
        return
    owner = owner_of(world, number)
    free: tuple[lease.Event, ...] = (lease.Unknown(None), lease.Adopt())
    for event in free:
        after = model.steps(world.grant, event)
        if after is not None:
            yield Move(f"{number}: {type(event).__name__}", world._replace(grant=after))
    if not world.budget.redeems:
        return
    settled = not model.rules.probe_waits or _is_settled(model, world)
    leasing: tuple[lease.Event, ...] = (lease.Take(owner), lease.Replay(owner), lease.Probe(owner, settled))
    for event in leasing:
        after = model.steps(world.grant, event)
        if after is not None and after.current is not None:
            process = world.processes[number]._replace(
                doing="prepared",
                attempt=after.attempt,
                generation=after.generation,
                consent=after.consent,
                token=int(after.current),
                probe=isinstance(event, lease.Probe),
            )
            budget = world.budget._replace(redeems=world.budget.redeems - 1)
            what = f"{number}: {type(event).__name__} attempt {after.attempt}, token {after.current}"
            yield Move(what, changed(world._replace(grant=after, budget=budget), number, process))


def _is_settled(model: Model, world: World) -> bool:
    """Tell what `core/settled.py` tells of real clocks: open sends' owners gone, journals empty, nothing on its way."""
    if world.orphans:
        return False
    for send in world.grant.open_sends:
        number, _, incarnation = send.owner.partition(".")
        process = world.processes[int(number)]
        if process.journal or (process.doing != "down" and process.incarnation == int(incarnation)):
            return False
    return True


def _prepared(model: Model, world: World, number: int) -> Iterator[Move]:
    process = world.processes[number]
    if world.up:
        window = 1 if model.mode in WINDOWED else None
        after = model.steps(world.grant, lease.Sent(process.attempt, process.generation, window))
        if after is not None:
            licensed = process._replace(doing="licensed", fresh=True)
            held = "" if world.grant.hold is Hold.NONE else "HELD: a licence was given for a grant that is held"
            yield Move(f"{number}: Sent", changed(world._replace(grant=after), number, licensed), held)
        yield _outcome(model, world, number, lease.NotSent(process.attempt, 0))


def _licensed(model: Model, world: World, number: int) -> Iterator[Move]:
    process = world.processes[number]
    if process.fresh or model.rules.late_write:
        waiting = process._replace(doing="waiting", fresh=False, request=True)
        yield Move(f"{number} writes token {process.token}", changed(world, number, waiting))
    if process.fresh and world.budget.lease_ends and world.grant.attempt != process.attempt:
        fewer = world.budget._replace(lease_ends=world.budget.lease_ends - 1)
        paused = process._replace(fresh=False)
        yield Move(f"{number} is paused, its licence gets old", changed(world._replace(budget=fewer), number, paused))
    if world.up:
        yield _outcome(model, world, number, lease.NotSent(process.attempt, 0))


def _waiting(model: Model, world: World, number: int) -> Iterator[Move]:
    process = world.processes[number]
    if process.answer is not None:
        token = process.answer.token
        received = world.received if token is None else world.received | {token}
        yield Move(
            f"{number} reads {told(process.answer)}",
            changed(world._replace(received=received), number, process._replace(doing="received")),
        )
    if not world.budget.losses:
        return
    budget = world.budget._replace(losses=world.budget.losses - 1)
    nothing = process._replace(doing="received", request=False, answer=None)
    if process.request:
        flying = world.orphans | {Request(process.token, process.probe)}
        late = world._replace(budget=budget, orphans=flying)
        yield Move(f"{number} hears nothing; its request flies on", changed(late, number, nothing))
    yield Move(f"{number} hears nothing", changed(world._replace(budget=budget), number, nothing))


def _received(model: Model, world: World, number: int) -> Iterator[Move]:
    """Store what came: at once where the database answers, in the journal where it does not."""
    process = world.processes[number]
    answer, attempt = process.answer, process.attempt
    if answer is not None and answer.token is not None and not answer.refused:
        entry = Entry(answer.token, attempt, process.generation, process.consent)
        if world.up:
            yield _land(model, world, number, entry)
        elif not model.rules.journal:
            yield Move(f"{number} gives token {entry.token} up", changed(world, number, idle(process)))
        elif entry not in process.journal:
            journalled = process._replace(journal=process.journal | {entry})
            yield Move(f"{number} writes token {entry.token} into its journal", changed(world, number, journalled))
    elif world.up:
        yield _outcome(model, world, number, _meaning(model, world, process))


def _meaning(model: Model, world: World, process: Process) -> lease.Event:
    if process.unread:
        return lease.NotConsumed(process.attempt, 0)
    if process.answer is None:
        if model.rules.doubt_silence:
            return lease.Unknown(process.attempt)
        return lease.NotConsumed(process.attempt, 0)
    if process.answer.refused:
        # Now is always 0, so that a doubted token's window that is over is none.
        doubted_in_window = world.grant.doubted is not None and int(world.grant.doubted) in world.provider.window
        return lease.Refused(process.attempt, process.generation, process.consent, int(doubted_in_window) or None)
    return lease.NotRotated(process.attempt)


def _outcome(model: Model, world: World, number: int, event: lease.Event) -> Move:
    process = world.processes[number]
    happened = model.steps(world.grant, event)
    grant = _closed(model, happened or world.grant, process.attempt)
    rotated = isinstance(event, lease.NotRotated) and happened is not None
    after = process._replace(doing="landed", answer=None) if rotated else idle(process)
    late = "" if happened is not None else " (too late)"
    return Move(f"{number}: {type(event).__name__}{late}", changed(world._replace(grant=grant), number, after))


def _land(model: Model, world: World, number: int, entry: Entry) -> Move:
    process = world.processes[number]
    grant = _landed(model, world.grant, entry)
    mine = grant.phase is Phase.LANDED and grant.attempt == process.attempt
    after = process._replace(doing="landed", answer=None) if mine else idle(process)
    return Move(f"{number} lands token {entry.token}", changed(world._replace(grant=grant), number, after))


def _landed(model: Model, grant: GrantState, entry: Entry) -> GrantState:
    landed = model.steps(grant, lease.Land(entry.attempt, entry.generation, entry.consent, str(entry.token)))
    return _closed(model, landed or grant, entry.attempt)


def _closed(model: Model, grant: GrantState, attempt: int) -> GrantState:
    return model.steps(grant, lease.Closed(attempt)) or grant


def _drain(model: Model, world: World, number: int) -> Iterator[Move]:
    """Land what the journal holds; an entry goes only once the database is seen to have it."""
    process = world.processes[number]
    if not world.up:
        return
    for entry in process.journal:
        if is_kept(world.grant, entry.token) or not model.rules.journal_keeps:
            emptied = process._replace(journal=process.journal - {entry})
            yield Move(f"{number} drops journalled token {entry.token}", changed(world, number, emptied))
        else:
            landed = world._replace(grant=_landed(model, world.grant, entry))
            yield Move(f"{number} lands journalled token {entry.token}", landed)


def _crashed(model: Model, world: World, number: int) -> World:
    process = world.processes[number]
    orphans = world.orphans
    if process.request:
        orphans |= {Request(process.token, process.probe)}
    in_hand = process.answer.token if process.doing == "received" and process.answer is not None else None
    safe = in_hand is None or is_kept(world.grant, in_hand) or any(entry.token == in_hand for entry in entries(world))
    return changed(
        world._replace(
            orphans=orphans,
            received=world.received if safe else world.received - {in_hand or 0},
            budget=world.budget._replace(crashes=world.budget.crashes - 1),
        ),
        number,
        Process(process.incarnation, doing="down", journal=process.journal),
    )
