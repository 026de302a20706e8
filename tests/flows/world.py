"""The flows of GetToken wired over the store in memory; a test commands the provider, the clock and the audit log."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from broker.adapters.evidence_file import NoEvidence
from broker.adapters.keys.keyring import Keyring, open_keyring
from broker.adapters.memory import MemoryStore
from broker.adapters.memory.buckets import MemoryBuckets
from broker.adapters.memory.journal import MemoryJournal
from broker.core import lease
from broker.core.audit import Action, AuditEvent
from broker.core.errors import StoreUnavailableError
from broker.core.gcra import Charge, Decision
from broker.core.grant_state import GrantState, Hold
from broker.core.identity import CallerId
from broker.core.models import (
    Client,
    Grant,
    GrantType,
    Kind,
    Limit,
    NarrowingProfile,
    NarrowingProof,
    Origin,
    Policy,
    Provider,
    RoleBinding,
    TokenEndpointAuth,
)
from broker.core.oauth.rfc6749 import HttpReply, HttpRequest
from broker.core.sealing import client_secret_binding, refresh_token_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.catalog_view import CatalogView
from broker.flows.client_breaker import ClientBreaker
from broker.flows.decide import Decide, TokenRequest
from broker.flows.drain_journal import DrainJournal
from broker.flows.end_token import EndToken
from broker.flows.get_token import GetToken, IssuedToken
from broker.flows.heart import Heart
from broker.flows.hold_grant import HoldGrant
from broker.flows.keep_received import KeepReceived
from broker.flows.lease_grant import LeaseGrant
from broker.flows.limits import Limiter
from broker.flows.lookout import Lookout
from broker.flows.obtain import Obtain
from broker.flows.prospects import Prospects
from broker.flows.prove_client import ProveClient
from broker.flows.prove_narrowing import ProveNarrowing
from broker.flows.provider_call import ProviderCall
from broker.flows.receive import Receive
from broker.flows.redeem_client_credentials import RedeemClientCredentials
from broker.flows.redeem_now import RedeemNow
from broker.flows.redeem_refresh_token import RedeemRefreshToken
from broker.flows.redeem_under_lease import RedeemUnderLease
from broker.flows.renew import Renew
from broker.flows.revoke_tokens import RevokeTokens
from broker.flows.tend_grants import TendGrants
from broker.flows.token_cache import TokenCache
from broker.flows.trail import Trail
from broker.flows.watch_for_rollback import WatchForRollback
from broker.ports import AttemptRecord, ClientSecretVersion, DataKey, Evidence, ObjectChange
from tests.support.times import TIMES
from tests.support.waiting import ENOUGH

TIME = datetime(2026, 1, 2, tzinfo=UTC)
READ = ("account:information", "order:information")
TRADE = ("order:execution",)
ALL = tuple(sorted((*READ, *TRADE)))
SECRET = "canary-client-secret"
FIRST = "canary-rt-0"

T = TypeVar("T")

DATA_KEYS: list[DataKey] = []
"""Made by the first world and used by all: making them takes longer than most tests."""

PROVIDER = Provider(
    id="p1",
    name="aries",
    origin=Origin.RPC,
    preset="generic",
    issuer="https://id.example",
    token_url="https://id.example/token",
    token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_POST,
    scopes={"read": READ, "trade": TRADE, "withdraw": (), "admin": ("boss",)},
    wire_scopes=frozenset({"news"}),
    api_origins=("https://api.example",),
    resources=("https://api.example",),
)
NARROWING = replace(
    PROVIDER,
    narrowing=NarrowingProfile.ADDITIONAL,
    proof=NarrowingProof(NarrowingProfile.ADDITIONAL, PROVIDER.token_url),
)
"""The provider, proved to narrow."""
CLIENT = Client("c1", "desk", Origin.RPC, "aries", "desk-app")


def grant(
    name: str, type_: GrantType = GrantType.CLIENT_CREDENTIALS, scopes: Iterable[str] = ("read", "trade")
) -> Grant:
    """Return a grant of the desk's client."""
    return Grant(f"id-{name}", name, Origin.RPC, "desk", type_, frozenset(scopes))


def policy(name: str, callers: str, grants: str, scopes: str, accept_excess: str = "") -> Policy:
    """Return a policy; words are separated by spaces."""
    words = [tuple(text.split()) for text in (callers, grants, scopes, accept_excess)]
    return Policy(f"id-{name}", name, Origin.RPC, words[0], words[1], frozenset(words[2]), frozenset(words[3]))


def jwt(**claims: object) -> str:
    """Return a JWT with these claims and a nonsense signature."""
    parts = [json.dumps(part).encode() for part in ({"alg": "ES256"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), "c2ln"])


def reply(status: int, body: object, **headers: str) -> HttpReply:
    """Return a JSON reply; header names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpReply(status, {"content-type": "application/json", **named}, json.dumps(body).encode())


def tokens(**members: object) -> HttpReply:
    """Return a 200 with these members; one given as None is left out."""
    body = {"access_token": "at", "token_type": "Bearer", "expires_in": 3600} | members
    return reply(200, {name: value for name, value in body.items() if value is not None})


def error(code: str, status: int = 400, **headers: str) -> HttpReply:
    """Return an error reply of RFC 6749 §5.2."""
    return reply(status, {"error": code, "error_description": f"it was {SECRET}"}, **headers)


class ManualClock:
    """The port Clock; stands still unless a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return 1_800_000_000.0 + self.seconds

    def boottime(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.seconds += seconds


async def let_pass(clock: ManualClock, task: asyncio.Future[T]) -> T:
    """Let time pass until a task is done; return what it returns."""
    async with asyncio.timeout(ENOUGH):
        while not task.done():
            clock.advance(0.25)
            await asyncio.sleep(0.001)
    return await task


async def crash(but: Collection[asyncio.Task[Any]] = ()) -> None:
    """End all that runs `but` these, as the end of its processes does."""
    tasks = asyncio.all_tasks() - {asyncio.current_task(), *but}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


LABELS = {"licence": "Sent", "probe": "Probe"}
"""Methods that are steps of the redeem, by the name of their event."""


class WatchedStore:
    """The store in memory, every call of which is noted, takes a turn of the loop, and can be held or fail.

    Attributes:
        calls: names of the methods called; steps of the redeem by their event's name.
        away: calls that fail; `*` for all.
        before, after: what a test wants to happen around a call, by name.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.inner = MemoryStore(TIMES, lambda: int(clock.boottime() * 1000))
        self.calls: list[str] = []
        self.away: set[str] = set()
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - stands in for every port of the store
        method = getattr(self.inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the same
            label = type(args[1]).__name__ if name == "apply" else LABELS.get(name, name)
            self.calls.append(label)
            await asyncio.sleep(0)
            self.fail_if_away(label)
            if label in self.before:
                await self.before[label]()
                self.fail_if_away(label)
            result = await method(*args, **kwargs)
            if label in self.after:
                await self.after[label]()
            await asyncio.sleep(0)
            return result

        return call

    def fail_if_away(self, label: str) -> None:
        """Fail as a database does that is away."""
        if label in self.away or "*" in self.away:
            raise StoreUnavailableError("the store did not answer in time", cause="connection")


@dataclass(slots=True)
class Endpoint:
    """The port TokenEndpoint over a script; keeps the promises of the port.

    Attributes:
        requests: parameters of each request written, in order.
        answers: what the next requests are answered: a reply, an exception to raise, or a function of the parameters.
        hold: while set, written requests wait for it; connect: what happens before the licence to write is asked for.
        rotates: the provider gives a new refresh token each time, and refuses any but the last.
        ended: kind and value of each token it was told to revoke; on_end: what the next such requests are answered.
    """

    requests: list[dict[str, str]] = field(default_factory=list)
    answers: list[HttpReply | Exception | Callable[[dict[str, str]], HttpReply]] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    connect: Callable[[], Awaitable[None]] | None = None
    hold: asyncio.Event | None = None
    rotates: bool = True
    live: str = FIRST
    ended: list[tuple[str, str]] = field(default_factory=list)
    on_end: list[HttpReply] = field(default_factory=list)

    async def send(
        self,
        provider: Provider,
        request: HttpRequest,
        *,
        before_write: Callable[[], Awaitable[None]],
        reply_deadline: float,
    ) -> HttpReply:
        await asyncio.sleep(0)
        if self.connect is not None:
            await self.connect()
        await before_write()
        parameters = dict(parse_qsl(request.body.decode()))
        if request.url == provider.revocation_url:
            return self.end(parameters)
        number = len(self.requests) + 1
        self.requests.append(parameters)
        self.deadlines.append(reply_deadline)
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else self.usual(parameters, number)
        if isinstance(answer, Exception):
            raise answer
        return answer(parameters) if callable(answer) else answer

    def end(self, parameters: Mapping[str, str]) -> HttpReply:
        """Answer a revocation request."""
        self.ended.append((parameters["token_type_hint"], parameters["token"]))
        return self.on_end.pop(0) if self.on_end else reply(200, {})

    def usual(self, parameters: Mapping[str, str], number: int) -> HttpReply:
        """Answer as a well-behaved provider: exactly what is asked, the whole grant if nothing is."""
        scope = parameters.get("scope", " ".join(ALL))
        if parameters["grant_type"] == "client_credentials":
            return tokens(access_token=f"at-{number}", scope=scope)
        if parameters["refresh_token"] != self.live:
            return error("invalid_grant")
        if not self.rotates:
            return tokens(access_token=f"at-{number}", scope=scope)
        self.live = f"canary-rt-{number}"
        return tokens(access_token=f"at-{number}", scope=scope, refresh_token=self.live)


class Audit:
    """The port AuditSink; `on_record` runs while the next event is being written and may raise."""

    def __init__(self, store: WatchedStore) -> None:
        self._store = store
        self.events: list[AuditEvent] = []
        self.offered: list[AuditEvent] = []
        self.on_record: list[Callable[[], Awaitable[None]]] = []

    async def record(self, event: AuditEvent) -> int:
        await asyncio.sleep(0)
        if self.on_record:
            await self.on_record.pop(0)()
        self.events.append(event)
        return await self._store.inner.read_version()

    def offer(self, event: AuditEvent) -> bool:
        self.offered.append(event)
        return True


class Counted:
    """The port RedeemTelemetry; notes what the flows say."""

    def __init__(self) -> None:
        self.issued: list[str] = []
        self.redeems: list[tuple[str, str]] = []
        self.refused: list[tuple[str, str]] = []
        self.journal: list[int] = []
        self.journal_failures = 0
        self.clients_refused: list[bool] = []
        self.revocations: list[str] = []
        self.suspects: list[int] = []
        self.evidence_failures = 0

    def store_refused(self, grant_id: str, step: str, cause: str) -> None:
        self.refused.append((step, cause))

    def journal_holds(self, entries: int) -> None:
        self.journal.append(entries)

    def journal_failed(self, grant_id: str) -> None:
        self.journal_failures += 1

    def rolled_back(self, grants: int) -> None:
        self.suspects.append(grants)

    def evidence_failed(self) -> None:
        self.evidence_failures += 1

    def revocation_finished(self, provider: str, client: str, told: str) -> None:
        self.revocations.append(told)

    def client_refused(self, provider: str, client: str, *, refused: bool) -> None:
        self.clients_refused.append(refused)

    def token_issued(self, source: str) -> None:
        self.issued.append(source)

    def redeem_finished(self, provider: str, client: str, outcome: str, cause: str) -> None:
        self.redeems.append((provider, outcome))


class Buckets(MemoryBuckets):
    """Buckets that note what they were charged."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(lambda: int(clock.boottime() * 1_000_000))
        self.charged: list[str] = []

    async def spend(self, charges: Any) -> Decision:  # noqa: ANN401 - a sequence of charges
        wanted: list[Charge] = list(charges)
        self.charged += [charge.limit for charge in wanted]
        await asyncio.sleep(0)
        return await super().spend(wanted)


class Signer:
    """The port AssertionSigner; signs nothing."""

    def sign(self, provider: Provider, client: Client, private_key: Secret, *, now: float) -> str:
        return f"assertion-of-{client.client_id}"


class PlainKek:
    """A key-encryption key that wraps nothing: these tests are not about it."""

    uri = "test:kek"

    async def wrap(self, keyset: bytes, associated_data: bytes) -> bytes:
        return keyset

    async def unwrap(self, wrapped: bytes, associated_data: bytes) -> bytes:
        return wrapped


@dataclass(slots=True)
class Replica:
    """One broker process's flows."""

    heart: Heart
    drain: DrainJournal
    view: CatalogView
    cache: TokenCache
    obtain: Obtain
    get_token: GetToken
    redeem_now: RedeemNow
    prove_narrowing: ProveNarrowing
    receive: Receive
    lookout: Lookout
    refresh: RedeemRefreshToken
    tend: TendGrants
    renew: Renew
    rollback: WatchForRollback
    hold: HoldGrant
    trails: list[Trail] = field(default_factory=list)

    async def get(
        self,
        *scopes: str,
        grant: str = "desk",
        caller: str = "orders",
        min_lifetime: float | None = None,
        resource: str = "",
        rejected: str = "",
    ) -> IssuedToken:
        """Call GetToken as an API key of that name."""
        who = CallerId("key", caller)
        trail = Trail("GetToken", "peer", "r1", actor=str(who))
        self.trails.append(trail)
        return await self.get_token(
            TokenRequest(who, grant, scopes or ("read",), min_lifetime, resource, rejected), trail
        )


@dataclass(slots=True)
class World:
    """A store and a provider, and as many replicas as a test starts."""

    clock: ManualClock
    store: WatchedStore
    keyring: Keyring
    endpoint: Endpoint
    audit: Audit
    counted: Counted
    buckets: Buckets

    async def put(self, *objects: Provider | Client | Grant | Policy | Limit | RoleBinding) -> None:
        """Write objects as an admin does."""
        kinds = {
            Provider: Kind.PROVIDER,
            Client: Kind.CLIENT,
            Grant: Kind.GRANT,
            Policy: Kind.POLICY,
            Limit: Kind.LIMIT,
            RoleBinding: Kind.ROLE,
        }
        await self._write([ObjectChange(kinds[type(item)], item.name, item) for item in objects])

    async def remove(self, kind: Kind, name: str) -> None:
        """Remove an object as an admin does."""
        await self._write([ObjectChange(kind, name, None)])

    async def _write(self, changes: list[ObjectChange]) -> None:
        event = AuditEvent(TIME, Action.CONFIG_PUT)
        await self.store.inner.write_objects(changes, revision=None, event=event)

    async def secret(self, provider: Provider = PROVIDER, client: Client = CLIENT) -> None:
        """Enter the client's secret."""
        origin = origin_of(provider.token_url)
        sealed = await self.keyring.seal(Secret(SECRET), client_secret_binding(client.id, 1, origin))
        version = ClientSecretVersion(client.id, 1, sealed, origin)
        await self.store.inner.add_secret(version, AuditEvent(TIME, Action.SECRET_ADD))

    async def consent(self, name: str, token: str = FIRST, provider: Provider = PROVIDER) -> None:
        """Bring a first refresh token, as a login or an import does."""
        state = self.state(name)
        origin = origin_of(provider.token_url)
        binding = refresh_token_binding(f"id-{name}", state.consent + 1, state.attempt + 1, origin)
        await self.store.inner.keep_and_consent(
            f"id-{name}",
            lease.Consented(self.keyring.fingerprint(Secret(token))),
            state.consent,
            await self.keyring.seal(Secret(token), binding),
            None,
            AuditEvent(TIME, Action.GRANT_IMPORT),
            expected_attempt=state.attempt,
        )

    def state(self, name: str) -> GrantState:
        """Return a grant's row as it is."""
        return self.store.inner._grants[f"id-{name}"].state

    async def send_and_vanish(self, name: str, replay_for: int | None = None) -> None:
        """Let a process get the licence to write and vanish."""
        state = await self.store.inner.apply(f"id-{name}", lease.Take("gone"))
        assert state is not None
        record = AttemptRecord(f"id-{name}", state.attempt, "gone", 1, TIME, "")
        sent = lease.Sent(state.attempt, state.generation, replay_for)
        assert await self.store.inner.licence(sent, record) is not None

    def leased(self, name: str) -> bool:
        """Tell whether somebody's lease on the grant, or on one of its keys, lives."""
        now = int(self.clock.boottime() * 1000)
        of_keys = [row.lease_until for key, row in self.store.inner._access.items() if key.grant_id == f"id-{name}"]
        return max(self.state(name).lease_until, *of_keys, 0) > now

    async def hold(self, name: str, hold: Hold = Hold.FROZEN) -> None:
        """Hold a grant, as an admin does, with a new version."""
        inner = self.store.inner
        held = inner._grants[f"id-{name}"]
        inner._grants[held.id] = replace(held, state=replace(held.state, hold=hold))
        inner._changed(AuditEvent(TIME, Action.CONFIG_PUT), [(Kind.GRANT, held.id)])

    async def refresh_token(self, name: str) -> str:
        """Return the grant's current refresh token."""
        stored = await self.store.inner.current_refresh_token(f"id-{name}")
        assert stored is not None
        origin = origin_of(PROVIDER.token_url)
        binding = refresh_token_binding(f"id-{name}", stored.consent, stored.attempt, origin)
        return (await self.keyring.open(stored.sealed, binding)).reveal()

    async def attempts(self, name: str) -> Sequence[AttemptRecord]:
        """Return a grant's history, newest first."""
        return await self.store.inner.list_attempts(f"id-{name}", 100)

    async def outcomes(self, name: str) -> list[str]:
        """Return the outcomes in a grant's history, oldest first."""
        return [record.outcome for record in reversed(await self.attempts(name))]

    async def replica(
        self, owner: str = "a", journal: MemoryJournal | None = None, evidence: Evidence | None = None
    ) -> Replica:
        """Start a replica, on a data volume of its own unless one is given."""
        store: Any = self.store
        view = CatalogView(store, store)
        await view.load()
        random = Random(1)
        journal = journal or MemoryJournal()
        heart = Heart(
            replicas=store, clock=self.clock, owner=owner, volume=journal.volume, every=TIMES.extend_every / 1000
        )
        receive = Receive(self.keyring, self.clock, random)
        cache = TokenCache()
        telemetry: Any = self.counted
        breaker = ClientBreaker(clock=self.clock, telemetry=telemetry)
        prove_client = ProveClient(
            secrets=store, cipher=self.keyring, signer=Signer(), breaker=breaker, clock=self.clock
        )
        limiter = Limiter(lambda: view.catalog.limits, view.catch_up, self.buckets)
        call = ProviderCall(
            prove_client=prove_client,
            breaker=breaker,
            endpoint=self.endpoint,
            limiter=limiter,
            clock=self.clock,
            telemetry=telemetry,
            refuse_sandbox=False,
        )
        rollback = WatchForRollback(
            store=store, evidence=evidence or NoEvidence(), clock=self.clock, telemetry=telemetry, owner=owner
        )
        under_lease = RedeemUnderLease(
            grants=store,
            access_tokens=store,
            call=call,
            keep_received=KeepReceived(grants=store, logins=store, journal=journal, telemetry=telemetry, times=TIMES),
            receive=receive,
            cipher=self.keyring,
            telemetry=telemetry,
            clock=self.clock,
            times=TIMES,
            owner=owner,
            random=random,
            noted=rollback.note,
        )
        refresh = RedeemRefreshToken(
            grants=store,
            access_tokens=store,
            lease_grant=LeaseGrant(grants=store, heart=heart, times=TIMES, owner=owner),
            under_lease=under_lease,
            heart=heart,
            clock=self.clock,
        )
        tend = TendGrants(
            view=view,
            grants=store,
            lease_grant=LeaseGrant(grants=store, heart=heart, times=TIMES, owner=owner),
            redeem=refresh,
            revoke_tokens=RevokeTokens(
                view=view,
                grants=store,
                access_tokens=store,
                receive=receive,
                cipher=self.keyring,
                end_token=EndToken(
                    prove_client=prove_client, breaker=breaker, endpoint=self.endpoint, telemetry=telemetry
                ),
                clock=self.clock,
            ),
            clock=self.clock,
            random=random,
        )
        credentials = RedeemClientCredentials(
            grants=store,
            access_tokens=store,
            heart=heart,
            call=call,
            receive=receive,
            clock=self.clock,
            times=TIMES,
            owner=owner,
        )
        lookout = Lookout(store, self.clock, random)
        obtain = Obtain(
            access_tokens=store,
            prospects=Prospects(store),
            cache=cache,
            receive=receive,
            lookout=lookout,
            redeem={GrantType.REFRESH_TOKEN: refresh, GrantType.CLIENT_CREDENTIALS: credentials},
            clock=self.clock,
        )
        renew = Renew(
            view=view,
            access_tokens=store,
            obtain=obtain,
            receive=receive,
            cache=cache,
            buckets=self.buckets,
            callers_wait=call.is_waited_for,
            clock=self.clock,
            random=random,
        )
        get_token = GetToken(
            view=view,
            decide=Decide(view),
            cache=cache,
            obtain=obtain,
            limiter=limiter,
            buckets=self.buckets,
            audit=self.audit,
            clock=self.clock,
            telemetry=telemetry,
            handed_out=renew.handed_out,
            random=random,
        )
        return Replica(
            heart=heart,
            drain=DrainJournal(
                grants=store,
                logins=store,
                replicas=store,
                journal=journal,
                heart=heart,
                telemetry=telemetry,
                owner=owner,
            ),
            view=view,
            cache=cache,
            obtain=obtain,
            get_token=get_token,
            redeem_now=RedeemNow(view=view, catalog_store=store, grants=store, obtain=obtain),
            prove_narrowing=ProveNarrowing(view=view, catalogs=store, grants=store, redeem=refresh, clock=self.clock),
            receive=receive,
            lookout=lookout,
            refresh=refresh,
            tend=tend,
            renew=renew,
            rollback=rollback,
            hold=HoldGrant(grants=store, access_tokens=store, clock=self.clock, soon=tend.soon),
        )


async def new_world(provider: Provider = PROVIDER) -> World:
    """Return a world with the desk's two grants, `desk` (client credentials) and `person` (a refresh token).

    `orders` may read and trade with both; `reports` may read with `desk`.
    """
    clock = ManualClock()
    store = WatchedStore(clock)
    kek: Any = PlainKek()
    await store.inner.add_first_data_keys(DATA_KEYS)
    keyring = await open_keyring(store.inner, [kek])
    DATA_KEYS[:] = await store.inner.load_data_keys()
    world = World(clock, store, keyring, Endpoint(), Audit(store), Counted(), Buckets(clock))
    await world.put(
        provider,
        CLIENT,
        grant("desk"),
        grant("person", GrantType.REFRESH_TOKEN),
        policy("orders", "key:orders", "desk person", "read trade admin news withdraw"),
        policy("reports", "key:reports", "desk", "read"),
    )
    await world.secret(provider)
    await world.consent("person", provider=provider)
    return world
