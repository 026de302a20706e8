"""Looking at every world that can be reached, breadth first: the first trace to a violation is a shortest one.

A move is one atomic thing of the real system: a transaction, bytes handed to the network, a request handled, a crash.
Faults are budgeted, and so is how often a redeem begins; all other work goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.model.grant import Steps
from tests.model.invariants import broken
from tests.model.processes import process_moves
from tests.model.provider import Mode
from tests.model.rules import WHOLE, Rules
from tests.model.surroundings import cleaning_moves, operator_moves, provider_moves, surrounding_moves
from tests.model.world import Budget, Model, Move, World, start


@dataclass
class Result:
    """What was found.

    Attributes:
        worlds: how many different worlds were reached.
        complete: all there are were looked at.
        violations: by their first word, what was broken and how it came to that, one line per move.
    """

    worlds: int = 0
    complete: bool = True
    violations: dict[str, Sequence[str]] = field(default_factory=dict)


def check(
    mode: Mode,
    budget: Budget,
    rules: Rules = WHOLE,
    *,
    after: Sequence[str] = (),
    most: int | None = None,
    stop: bool = False,
) -> Result:
    """Look at every world.

    Args:
        mode: what the provider does with a spent token.
        budget: how many faults may happen.
        rules: the protocol's, or those without one.
        after: moves to go through first, each by how it is told.
        most: look at no more worlds than this.
        stop: at the first violation.
    """
    model, result = Model(mode, rules, Steps(rules.step)), Result()
    first = _led(model, start(budget), after)
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    ahead = deque([first])
    while ahead:
        world = ahead.popleft()
        result.worlds += 1
        if most is not None and result.worlds >= most:
            result.complete = False
            break
        found = broken(model, world)
        if found:
            _note(result, found, _trace(came_from, world))
        for move in () if found else successors(model, world):
            if move.broken:
                _note(result, move.broken, [*_trace(came_from, world), move.what])
                continue
            step = (world, move.what)
            if came_from.setdefault(move.world, step) is step:  # a new world
                ahead.append(move.world)
        if stop and result.violations:
            result.complete = False
            break
    return result


def successors(model: Model, world: World) -> Iterator[Move]:
    """Return everything that may happen next."""
    for number in range(len(world.processes)):
        yield from process_moves(model, world, number)
    yield from provider_moves(model, world)
    yield from surrounding_moves(world)
    yield from operator_moves(model, world)
    yield from cleaning_moves(model, world)


def _led(model: Model, world: World, moves: Sequence[str]) -> World:
    for wanted in moves:
        world = next(move.world for move in successors(model, world) if move.what.startswith(wanted))
    return world


def _note(result: Result, broken: str, trace: Sequence[str]) -> None:
    result.violations.setdefault(broken.partition(":")[0], [*trace, broken])


def _trace(came_from: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    moves = []
    step = came_from[world]
    while step is not None:
        moves.append(step[1])
        step = came_from[step[0]]
    return moves[::-1]
