"""A broker's edge on real sockets: everything real but the flow behind it, the store of keys and the audit sink."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2

from aries.broker.v1 import token_pb2, token_pb2_grpc
from broker.adapters.memory.buckets import MemoryBuckets
from broker.core import gcra
from broker.core.api_keys import build_api_key, maced_api_key
from broker.core.audit import AuditEvent
from broker.core.errors import BrokerError, NotFoundError, UnauthenticatedError
from broker.core.identity import CallerId, Role
from broker.core.models import ApiKey, Catalog, Issuer, Narrowing, Origin, RoleBinding
from broker.core.scopes import parse_requested
from broker.core.secret import Secret
from broker.flows.decide import TokenRequest
from broker.flows.get_token import IssuedToken
from broker.flows.limits import Limiter
from broker.flows.record_denial import RecordDenial
from broker.flows.trail import Trail
from broker.flows.watch_revocations import Revocations
from broker.ports import CallerSignatures, ServerTls, UnknownMacKeyError
from broker.rpc.authenticate import Authenticate
from broker.rpc.edge import Edge, EdgeLimits
from broker.rpc.listeners import ListenerConfig
from broker.rpc.methods import TOKEN_SERVICE
from broker.rpc.server import BrokerServer
from broker.rpc.servicers.token import TokenServicer

ACCESS_TOKEN = "canary-access-token"


class Clock:
    """Real time, plus what a test adds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self.ahead


class Sink:
    """Keeps audit events; can be broken."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.durable: list[AuditEvent] = []
        self.broken: BaseException | None = None
        self.full = False
        self.gate: Callable[[], Awaitable[object]] | None = None

    async def record(self, event: AuditEvent) -> int:
        if self.gate is not None:
            await self.gate()
        if self.broken is not None:
            raise self.broken
        self.events.append(event)
        self.durable.append(event)
        return 1

    def offer(self, event: AuditEvent) -> bool:
        if self.full:
            return False
        self.events.append(event)
        return True


class Macs:
    """One HMAC key; `loaded` says whether this process met it yet."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self.calls = 0
        self.loaded = True

    def mac(self, data: bytes) -> tuple[str, bytes]:
        self.calls += 1
        return "mac-1", hmac.digest(self._key, data, hashlib.sha256)

    def verify(self, key_id: str, data: bytes, tag: bytes) -> bool:
        if not self.loaded:
            raise UnknownMacKeyError(key_id)
        return hmac.compare_digest(self.mac(data)[1], tag) and key_id == "mac-1"

    async def load(self, key_id: str) -> None:
        assert "mac-1" == key_id
        self.loaded = True


class Keys:
    """API keys in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, ApiKey] = {}
        self.lookups = 0

    async def find_api_key(self, key_id: str) -> ApiKey | None:
        self.lookups += 1
        return self.rows.get(key_id)

    async def find_key_named(self, name: str) -> ApiKey | None:
        return next((key for key in self.rows.values() if key.name == name), None)

    async def list_api_keys(self) -> Sequence[ApiKey]:
        return sorted(self.rows.values(), key=lambda key: key.name)

    async def add_api_key(self, key: ApiKey, event: AuditEvent) -> int:
        self.rows[key.id] = key
        return 1

    async def set_api_key(self, key: ApiKey, event: AuditEvent, *, expected_version: int | None = None) -> int:
        if key.id not in self.rows:
            raise NotFoundError("no such key")
        self.rows[key.id] = key
        return 1


class NoSignatures:
    """No issuer has keys."""

    generation = 0

    async def verify(self, issuer: Issuer, unverified_jwt: str, algorithm: str, kid: str | None) -> None:
        raise UnauthenticatedError("the caller did not prove who it is", cause="jwt_signature")


class Counters:
    """Telemetry that remembers."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.counted = asyncio.Event()
        self.dropped = 0
        self.serials: list[str] = []
        self.refused = 0

    def request_finished(self, method: str, code: str, reason: str, seconds: float) -> None:
        self.requests[method, code, reason] += 1
        self.counted.set()

    def denials_dropped(self, count: int) -> None:
        self.dropped += count

    def certificate_served(self, serial: str, not_after: float) -> None:
        self.serials.append(serial)

    def certificate_refused(self) -> None:
        self.refused += 1


class FakeGetToken:
    """Hands out the canary; does what a test tells it to."""

    def __init__(self) -> None:
        self.requests: list[TokenRequest] = []
        self.before: Callable[[], Awaitable[object]] | None = None
        self.error: BaseException | None = None

    async def __call__(self, request: TokenRequest, trail: Trail) -> IssuedToken:
        self.requests.append(request)
        scopes = parse_requested(request.scopes)
        if self.before is not None:
            await self.before()
        if self.error is not None:
            raise self.error
        return issued(scopes, request.grant)


class FakeWatch:
    """Yields a cursor, then what a test puts into `to_tell`, and meanwhile nothing; a BrokerError is raised."""

    def __init__(self) -> None:
        self.to_tell: list[Revocations | BrokerError] = []
        self.watched: list[tuple[CallerId, str]] = []
        self.open = 0

    async def __call__(self, caller: CallerId, cursor: str) -> AsyncGenerator[Revocations | None, None]:
        self.watched.append((caller, cursor))
        self.open += 1
        try:
            yield Revocations("0")
            while True:
                told = self.to_tell.pop(0) if self.to_tell else None
                if isinstance(told, BrokerError):
                    raise told
                yield told
                await asyncio.sleep(0)
        finally:
            self.open -= 1


def issued(scopes: tuple[str, ...], grant: str) -> IssuedToken:
    """Return a token as the flow would."""
    return IssuedToken(
        access_token=Secret(ACCESS_TOKEN),
        scopes=scopes,
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
        lifetime=59.9999,
        renew_after=30.0,
        narrowing=Narrowing.NARROWED,
        fingerprint="f00d",
        grant=grant,
        lifetime_assumed=False,
        provider_scopes=("account:information",),
        api_origins=("https://api.example",),
        excess_scopes=(),
        source="memory",
    )


@dataclass
class Kit:
    """The parts of one edge, for a test to turn."""

    clock: Clock = field(default_factory=Clock)
    sink: Sink = field(default_factory=Sink)
    macs: Macs = field(default_factory=Macs)
    keys: Keys = field(default_factory=Keys)
    telemetry: Counters = field(default_factory=Counters)
    get_token: FakeGetToken = field(default_factory=FakeGetToken)
    watch: FakeWatch = field(default_factory=FakeWatch)
    signatures: CallerSignatures = field(default_factory=NoSignatures)
    catalog: Catalog = field(default_factory=lambda: Catalog(version=1))
    limits: EdgeLimits = field(default_factory=EdgeLimits)
    trust_domain: str | None = None
    tls: ServerTls | None = None
    serving: bool = True
    store_version: int = 0
    reflection: bool = False
    record_denial: RecordDenial = field(init=False)
    authenticate: Authenticate = field(init=False)
    served: Edge = field(init=False)

    def add_key(self, name: str, *, disabled: bool = False, bootstrap_until: int | None = None) -> str:
        """Store a new API key and return its text."""
        key_id, key = build_api_key(secrets.token_bytes(8), secrets.token_bytes(32))
        mac_key_id, tag = self.macs.mac(maced_api_key(key, name, bootstrap_until))
        self.keys.rows[key_id] = ApiKey(key_id, name, tag, mac_key_id, disabled, bootstrap_until)
        return key.reveal()

    def edge(self) -> Edge:
        """Return a new edge over the parts."""
        self.record_denial = RecordDenial(self.sink, self.clock, self.telemetry)
        self.authenticate = Authenticate(
            catalog=lambda: self.catalog,
            version=lambda: max(self.catalog.version, self.store_version),
            keys=self.keys,
            macs=self.macs,
            signatures=self.signatures,
            clock=self.clock,
            tls=self.tls,
            trust_domain=self.trust_domain,
        )
        buckets = MemoryBuckets(lambda: int(self.clock.boottime() * gcra.MICROSECONDS))
        return Edge(
            authenticate=self.authenticate,
            catalog=lambda: self.catalog,
            buckets=buckets,
            limiter=Limiter(lambda: self.catalog.limits, self.catch_up, buckets),
            record_denial=self.record_denial,
            telemetry=self.telemetry,
            clock=self.clock,
            jitter=lambda: 0.5,
            follow=self.follow,
            limits=self.limits,
        )

    async def catch_up(self, version: int) -> None:
        """Nothing to read: the catalogue of these tests is set."""

    async def follow(self) -> None:
        """Nothing to follow: the catalogue of these tests is set, not changed by calls."""

    def server(self, *listeners: ListenerConfig, admin: Mapping[str, object] | None = None) -> BrokerServer:
        """Return a server on the listeners, plaintext loopback if none."""
        self.served = self.edge()
        servicers: dict[str, object] = {TOKEN_SERVICE: TokenServicer(self.get_token, self.watch), **(admin or {})}
        return BrokerServer(
            self.served,
            servicers,
            listeners or (ListenerConfig("127.0.0.1:0"),),
            is_serving=lambda _service: self.serving,
            reflection=self.reflection,
        )

    @asynccontextmanager
    async def serve(
        self, *listeners: ListenerConfig, admin: Mapping[str, object] | None = None
    ) -> AsyncIterator[tuple[int, ...]]:
        """Serve and yield the ports of the listeners."""
        server = self.server(*listeners, admin=admin)
        ports = await server.start()
        try:
            yield ports
        finally:
            await server.stop(0)
            await self.record_denial.close()


@asynccontextmanager
async def token_stub(port: int) -> AsyncIterator[token_pb2_grpc.TokenServiceAsyncStub]:
    """Yield a stub over a plaintext channel of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield token_pb2_grpc.TokenServiceStub(channel)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return metadata that carries a bearer."""
    return (("authorization", f"Bearer {token}"),)


WISH = token_pb2.GetTokenRequest(grant="desk", scopes=["read"])


def role(role_: Role, *callers: str) -> RoleBinding:
    """Return a binding of a role."""
    return RoleBinding(f"id-{role_}", role_.value, Origin.FILE, role_, callers)


@dataclass(frozen=True)
class Refusal:
    """What a refused call was told."""

    code: grpc.StatusCode
    text: str
    reason: str = ""
    domain: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


async def refusal(call: Awaitable[object]) -> Refusal:
    """Await a call that must fail and return what it was told."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    msg = "the call was served"
    raise AssertionError(msg)


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Take an error's details apart."""
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    wait = None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(cast("bytes", value))
            assert status.code == error.code().value[0]
            for detail in status.details:
                detail.Unpack(info)
                detail.Unpack(bad)
                if detail.Unpack(retry):
                    wait = retry.retry_delay.ToMicroseconds() / 1e6
    fields = {violation.field: violation.description for violation in bad.field_violations}
    return Refusal(error.code(), error.details() or "", info.reason, info.domain, dict(info.metadata), wait, fields)
