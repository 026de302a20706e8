"""The flows of GetToken over a real database and a provider that kills spent tokens; processes that end anywhere."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.keys.keyring import open_keyring
from broker.adapters.memory.journal import MemoryJournal
from broker.core import lease
from broker.core.audit import Action, AuditEvent
from broker.core.errors import BrokerError
from broker.core.models import GrantType
from broker.core.oauth.rfc6749 import HttpReply
from broker.core.sealing import refresh_token_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.get_token import IssuedToken
from broker.flows.trail import Trail
from broker.ports import NotSentError, ReplyLostError
from tests.contract.backends import SqlBackend, open_sql
from tests.flows import world as flows
from tests.flows.world import FIRST, NARROWING, TIME, Endpoint, ManualClock, Replica, WatchedStore, World
from tests.support.times import TIMES

PERSON: Final = "id-person"
LIFE: Final = 3600
PATIENCE: Final = 0.05
"""Seconds in which whatever runs makes progress; when it does not it waits for time to pass."""
LONG: Final = 6
"""Half seconds after which what is waited for takes long."""


class Strict(Endpoint):
    """A provider that kills a spent token and, presented with one, the whole family.

    Attributes:
        fates: what becomes of the next requests.
        probing: asked before each request, whether the grant's send is a probe.
        spent, unread: tokens exchanged; tokens that were sent and that the provider said it did not read.
        given: by access token, when it ends and its scopes.
        excused: no one could get the grant back: its live token was never received, or the one probe had no answer.
        wrong: what must never happen and did.
    """

    fates: list[str]
    probing: Callable[[], Awaitable[bool]]
    clock: ManualClock
    spent: set[str]
    sent: set[str]
    given: dict[str, tuple[float, frozenset[str]]]
    excused: bool
    wrong: list[str]
    count: int
    alive: bool

    async def send(self, provider: Any, request: Any, *, before_write: Any, reply_deadline: float) -> HttpReply:  # noqa: ANN401 - the port's
        fate = self.fates.pop(0) if self.fates else "served"
        if fate == "not sent":
            raise NotSentError("connect")

        async def licensed() -> None:
            await before_write()
            self.probes = await self.probing()

        self.fate = fate
        return await super().send(provider, request, before_write=licensed, reply_deadline=reply_deadline)

    def usual(self, parameters: dict[str, str], number: int) -> HttpReply:  # type: ignore[override]  # narrower
        fate, token = self.fate, parameters["refresh_token"]
        if token in self.sent and not self.probes:
            self.wrong.append(f"{token} was sent twice")
        if fate == "unread":
            return flows.error("slow_down", 429)
        self.sent.add(token)
        if fate in {"request lost", "broken before"}:
            self.excused |= self.probes
            return self._no_answer(fate)
        if token in self.spent or not self.alive or token != self.live:
            self.alive = self.alive and token not in self.spent
            return flows.error("invalid_grant")
        self.spent.add(token)
        self.count += 1
        self.live = f"canary-rt-{self.count}"
        scopes = frozenset(parameters["scope"].split())
        self.given[f"at-{self.count}"] = (self.clock.boottime() + LIFE, scopes)
        if fate in {"reply lost", "broken after"}:
            self.excused = True
            return self._no_answer(fate)
        members = {"access_token": f"at-{self.count}", "refresh_token": self.live, "expires_in": LIFE}
        return flows.tokens(scope=" ".join(sorted(scopes)), **members)

    def _no_answer(self, fate: str) -> HttpReply:
        if fate in {"request lost", "reply lost"}:
            raise ReplyLostError("timeout")
        return flows.reply(500, {})


@dataclass
class Site:
    """A database, a provider, a journal, and the process that is there.

    Attributes:
        revoked, frozen: what operators have done.
    """

    backend: SqlBackend
    world: World
    endpoint: Strict
    journal: MemoryJournal
    replicas: list[Replica] = field(default_factory=list)
    incarnation: int = 0
    revoked: bool = False
    frozen: bool = False

    async def start(self) -> None:
        """Start a process with two replicas' worth of flows; what the one before it left is stored first."""
        self.incarnation += 1
        owners = [f"{letter}{self.incarnation}" for letter in "ab"]
        self.replicas = [await self.world.replica(owner, self.journal) for owner in owners]
        await self.beat()
        await self.replicas[0].drain()

    async def crash(self) -> None:
        """End the process and start the next on the same data."""
        await end_process()
        path = self.backend.folder.path
        await self.backend.aclose()
        self.backend, self.world = await _opened(path, self.world.clock, self.endpoint)
        self.journal = self.journal.reopened()
        await self.start()

    async def beat(self) -> None:
        """Say that the processes live."""
        for replica in self.replicas:
            await replica.heart.beat()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, with all processes alive and aware of changes at its end."""
        await self.backend.advance(round(seconds * 1000))  # first: no token may seem to live longer than it does
        self.world.clock.advance(seconds)
        await self.beat()
        for replica in self.replicas:
            await replica.view.catch_up(await self.backend.sql.read_version())

    async def get(self, replica: int, scopes: tuple[str, ...]) -> IssuedToken | BrokerError:
        """Ask for a token, and hold what comes against what must never come."""
        try:
            issued = await self.replicas[replica].get(*scopes, grant="person")
        except BrokerError as error:
            return error
        ends_at, carries = self.endpoint.given[issued.access_token.reveal()]
        asked = frozenset(wire for scope in scopes for wire in NARROWING.scopes[scope])
        for wrong, what in (
            (self.revoked, "a token of a revoked grant was served"),
            (self.frozen, "a token of a frozen grant was served"),
            (ends_at <= self.world.clock.boottime(), "a token past its end was served"),
            (
                issued.lifetime > ends_at - self.world.clock.boottime() + 1,
                "a token was said to live too long",
            ),
            (carries != asked, "a token of another scope set was served"),
        ):
            if wrong:
                self.endpoint.wrong.append(what)
        return issued

    async def until_done(self, *asked: asyncio.Task[Any], stop: asyncio.Event | None = None) -> None:
        """Let time pass until these are done, or until `stop`."""
        halt = asyncio.create_task((stop or asyncio.Event()).wait())
        waiting: set[asyncio.Task[Any]] = set(asked)
        idle = 0
        while waiting and not halt.done():
            done, _ = await asyncio.wait({*waiting, halt}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            waiting -= done
            if not done:
                idle += 1
                await self.pass_time(0.5 if idle < LONG else 10)  # shorter than a lease: its owner lives
        halt.cancel()

    async def settle(self) -> None:
        """Let everything that runs come to its end."""
        for replica in self.replicas:
            await self.until_done(asyncio.create_task(replica.obtain.aclose(60)))

    async def operate(self, step: lease.Freeze | lease.Unfreeze | lease.Revoke) -> None:
        """Hold the grant, let it go, end it."""
        await self.replicas[0].hold("person", step, Trail("Hold", "peer", "r1", actor="key:ops"))

    async def tend(self) -> None:
        """Look after all grants once."""
        await self.replicas[1].tend.look()
        await self.until_done(asyncio.create_task(self.replicas[1].tend.aclose(60)))

    async def close(self) -> None:
        """End the process."""
        await end_process()
        await self.backend.aclose()


async def end_process() -> None:
    """End all that runs but connections' ways back to their pools, which would stay open for later tests to trip over.

    Each goes in a task of SQLAlchemy's own that nothing but the end of a whole event loop cancels.
    """
    await flows.crash(but=going_back())


def going_back() -> set[asyncio.Task[Any]]:
    """Return the tasks that give a connection back."""
    way_back = AsyncConnection.close.__code__
    return {task for task in asyncio.all_tasks() if getattr(task.get_coro(), "cr_code", None) is way_back}


async def new_site(template: Path, path: Path) -> Site:
    """Return a site in a copy of the template."""
    shutil.copytree(template, path)
    clock, endpoint = ManualClock(), Strict()
    endpoint.fates, endpoint.clock, endpoint.spent, endpoint.sent, endpoint.given = [], clock, set(), set(), {}
    endpoint.excused, endpoint.wrong, endpoint.count, endpoint.alive = False, [], 0, True
    backend, world = await _opened(path, clock, endpoint)
    site = Site(backend, world, endpoint, MemoryJournal())

    async def probing() -> bool:
        reading = await site.backend.sql.get_state(PERSON)
        return reading is not None and reading.state.probes > 0

    endpoint.probing = probing
    await site.start()
    return site


async def _opened(path: Path, clock: ManualClock, endpoint: Strict) -> tuple[SqlBackend, World]:
    """Open the database as a new process does; the world's store is that, with its hooks."""
    backend = await open_sql(None, path)
    kek: Any = flows.PlainKek()
    if flows.DATA_KEYS:  # made by the first world of all, which takes longer than most tests
        await backend.data_keys.add_first_data_keys(flows.DATA_KEYS)
    keyring = await open_keyring(backend.database, [kek])
    flows.DATA_KEYS[:] = await backend.database.load_data_keys()
    backend.sql = backend.database.store(keyring, TIMES)
    store = WatchedStore(clock)
    store.inner = backend.sql  # type: ignore[assignment]  # the other implementation of its ports
    world = World(clock, store, keyring, endpoint, flows.Audit(store), flows.Counted(), flows.Buckets(clock))
    return backend, world


async def make_template(path: Path) -> None:
    """Make a database with one grant that a person has consented to."""
    backend, world = await _opened(path, ManualClock(), Strict())
    allowed = flows.policy("orders", "key:orders", "person", "read trade")
    await world.put(NARROWING, flows.CLIENT, flows.grant("person", GrantType.REFRESH_TOKEN), allowed)
    await world.secret(NARROWING)
    binding = refresh_token_binding(PERSON, 1, 1, origin_of(NARROWING.token_url))
    sealed = await world.keyring.seal(Secret(FIRST), binding)
    consented = lease.Consented(world.keyring.fingerprint(Secret(FIRST)))
    event = AuditEvent(TIME, Action.GRANT_IMPORT)
    await backend.sql.keep_and_consent(PERSON, consented, 0, sealed, None, event, expected_attempt=0)
    await backend.aclose()
