"""One moment of one grant, two broker processes, a database and a provider, as a value that can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from broker.core.grant_state import GrantState
from tests.model.grant import FIRST, Steps
from tests.model.provider import Answer, Mode, Provider
from tests.model.rules import Rules


class Budget(NamedTuple):
    """How often each fault, and each beginning of a redeem, may still happen."""

    redeems: int = 3
    crashes: int = 0
    lease_ends: int = 0
    losses: int = 0
    unread: int = 0
    outages: int = 0
    revokes: int = 0
    consents: int = 0


class Entry(NamedTuple):
    """A received token in a journal: the arguments of Land."""

    token: int
    attempt: int
    generation: int
    consent: int


class Process(NamedTuple):
    """A broker process.

    Attributes:
        incarnation: counts its starts; each is an owner of its own.
        doing: idle, prepared, licensed, waiting, received, landed or down.
        attempt, generation, consent, token: of the redeem it is at; probe: that is one.
        fresh: its own clock still says that the licence is new.
        request: what it wrote is on its way. answer: on its way back, or come; none came to one that received None.
        journal: what lies on its volume.
    """

    incarnation: int = 0
    doing: str = "idle"
    attempt: int = 0
    generation: int = 0
    consent: int = 0
    token: int = 0
    probe: bool = False
    fresh: bool = False
    request: bool = False
    answer: Answer | None = None
    unread: bool = False
    journal: frozenset[Entry] = frozenset()


class Request(NamedTuple):
    """A request whose sender is gone, still on its way."""

    token: int
    probe: bool


class World(NamedTuple):
    """One moment.

    Attributes:
        up: the database answers.
        orphans: requests nobody waits for.
        received: tokens a process held in its hand and did not take down with it in a crash.
    """

    grant: GrantState
    processes: tuple[Process, ...]
    provider: Provider
    budget: Budget
    up: bool = True
    orphans: frozenset[Request] = frozenset()
    received: frozenset[int] = frozenset({1})


class Move(NamedTuple):
    """One thing that may happen: what, the world after it, and what it broke, if anything."""

    what: str
    world: World
    broken: str = ""


def start(budget: Budget) -> World:
    """Return the world in which nothing has happened yet."""
    return World(FIRST, (Process(), Process()), Provider(frozenset({1})), budget)


class Model(NamedTuple):
    """What all moves are made by: the provider's mode, the rules, and their steps."""

    mode: Mode
    rules: Rules
    steps: Steps


def held(world: World) -> frozenset[int]:
    """Return tokens we have and could still use: stored and not refused, journalled, in hand, or on their way to us."""
    stored = {int(token.fingerprint) for token in world.grant.tokens if token.refused_at is None}
    in_hand = {process.answer.token for process in world.processes if process.answer is not None}
    return frozenset(stored | {entry.token for entry in entries(world)} | {token for token in in_hand if token})


def entries(world: World) -> Iterator[Entry]:
    """Return every entry of every journal."""
    return (entry for process in world.processes for entry in process.journal)


def is_kept(grant: GrantState, token: int) -> bool:
    """Tell whether the database has a token."""
    return any(kept.fingerprint == str(token) for kept in grant.tokens)


def is_worked_on(world: World) -> bool:
    """Tell whether the owner of the lease is there, at that attempt, and would keep it."""
    return any(
        world.grant.owner == owner_of(world, number)
        and process.attempt == world.grant.attempt
        and process.doing not in {"idle", "down"}
        for number, process in enumerate(world.processes)
    )


def owner_of(world: World, number: int) -> str:
    """Return what a process calls itself in a lease."""
    return f"{number}.{world.processes[number].incarnation}"


def idle(process: Process) -> Process:
    """Return the process with nothing to do."""
    return Process(process.incarnation, journal=process.journal)


def changed(world: World, number: int, process: Process) -> World:
    """Return the world with one process changed."""
    processes = list(world.processes)
    processes[number] = process
    return world._replace(processes=tuple(processes))


def told(answer: Answer) -> str:
    """Return an answer in a few words."""
    if answer.refused:
        return "invalid_grant" if answer.killed is None else "invalid_grant, a reuse"
    return "an access token" if answer.token is None else f"token {answer.token}"
