"""What surrounds every RPC, in one wrapper and in this order, the outermost first:

    telemetry ▸ audit of denials ▸ errors ▸ deadline ▸ load, peer's and global bucket ▸ authentication ▸ role ▸ servicer

Denials at any point below are recorded, since the audit stands outside authentication.
"""  # noqa: D415 - the sentence ends in the list

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from broker.core.audit import Action
from broker.core.errors import (
    BrokerError,
    DeadlineTooShortError,
    InvalidRequestError,
    OverloadedError,
    RoleRequiredError,
)
from broker.core.gcra import MICROSECONDS, Charge, charge
from broker.core.models import Catalog, LimitTarget, Window
from broker.core.policy import roles_of
from broker.flows.limits import Limiter
from broker.flows.record_denial import RecordDenial
from broker.flows.trail import Trail
from broker.ports import Buckets, Clock, Telemetry
from broker.rpc.authenticate import Authenticate, Credentials, Proof
from broker.rpc.call import Call
from broker.rpc.methods import TOKEN_SERVICE, Method
from broker.rpc.peer import address_of
from broker.rpc.running import Place, Running
from broker.rpc.status import INTERNAL, Status, status_of

Serve: TypeAlias = Callable[[Any, Call], Awaitable[Message]]
"""A servicer's method: the request message and the call in, the reply message out."""

Stream: TypeAlias = Callable[[Any, Call], AsyncGenerator[Message | None, None]]
"""A servicer's streaming method: reply messages out, and None where there is only to be looked whether it goes on."""

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

LEAST_TIME: Final = 0.05
"""Seconds of its deadline a call needs: less, and the answer would come too late whatever it is."""

CALLER_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

PROVED_FOR: Final = 2.0
"""Seconds after which a stream's caller is proved anew, though nothing moved: a certificate or JWT may have ended."""

SERVED: Final = Status(grpc.StatusCode.OK, "", "")
CANCELLED: Final = Status(grpc.StatusCode.CANCELLED, "", "CANCELLED")
EXPIRED: Final = Status(grpc.StatusCode.DEADLINE_EXCEEDED, "", "DEADLINE_EXCEEDED")

PEER: Final = Window(rate=Fraction(2_000), burst=4_000)
EVERYBODY: Final = Window(rate=Fraction(10_000), burst=10_000)

log = structlog.get_logger("broker.rpc")


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """What is allowed to anybody, before it is known who calls.

    Attributes:
        peer: of one address: a busy host's honest traffic, and less than a process can answer, so that one address
            cannot take it all.
        everybody: of all addresses together: a little above what a process can answer, so that what comes in excess
            is refused before it costs a signature check.
        in_flight: RPCs running or waiting: each holds some 20 KiB, and past this number waiting only grows.
        in_flight_of_peer: of those, how many of one address may not have proved yet who calls: a quarter. A call that
            has is its caller's alone, since behind one address may be a whole cluster.
        in_flight_of_caller: of those, how many may be one caller's: a tenth, so that nobody whose calls wait takes
            every place.
        streams: streams open at once; each holds some 30 KiB.
        streams_of_caller: streams one caller may have open: a few for each of its processes.
        overload_delay: seconds told to a caller shed by these numbers.
    """

    peer: Window = PEER
    everybody: Window = EVERYBODY
    in_flight: int = 2_000
    in_flight_of_peer: int = 500
    in_flight_of_caller: int = 200
    streams: int = 2_000
    streams_of_caller: int = 50
    overload_delay: float = 1.0


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A call that may be made, and what that rests on."""

    request: Message
    call: Call
    credentials: Credentials
    proof: Proof


_Answer: TypeAlias = Callable[[Context, _Admitted, Place], Awaitable[bytes | None]]


class Edge:
    """The wrapper; one per process, shared by both listeners."""

    def __init__(  # noqa: PLR0913 - one port or part for each step of the order above
        self,
        *,
        authenticate: Authenticate,
        catalog: Callable[[], Catalog],
        buckets: Buckets,
        limiter: Limiter,
        record_denial: RecordDenial,
        telemetry: Telemetry,
        clock: Clock,
        jitter: Callable[[], float],
        follow: Callable[[], Awaitable[None]],
        limits: EdgeLimits | None = None,
    ) -> None:
        """Wire the steps.

        Args:
            authenticate: proves callers.
            catalog: what is configured, as this process knows it.
            buckets: of this process, for the peers and for everybody: they keep it from too much work.
            limiter: spends what operators are limited to.
            record_denial: what becomes of every refusal.
            telemetry: counts and times.
            clock: deadlines and times.
            jitter: returns numbers from 0 to 1.
            follow: returns once `catalog` knows what is stored now; awaited before and after an operator's call.
            limits: of the edge itself.
        """
        self._authenticate = authenticate
        self._catalog = catalog
        self._buckets = buckets
        self._limiter = limiter
        self._record_denial = record_denial
        self._telemetry = telemetry
        self._clock = clock
        self._jitter = jitter
        self._follow = follow
        self._limits = limits or EdgeLimits()
        self._peer = charge("peer", ("edge", "peer", ""), self._limits.peer)
        self._everybody = charge("everybody", ("edge", "everybody"), self._limits.everybody)
        delay = self._limits.overload_delay
        self._all = Running(self._limits.in_flight, "the broker has too many calls running", delay)
        unproved = "too many calls of this address run whose callers are not known yet"
        self._of_peer = Running(self._limits.in_flight_of_peer, unproved, delay)
        self._of_caller = Running(self._limits.in_flight_of_caller, "too many calls of this caller run", delay)
        self._streams = Running(self._limits.streams_of_caller, "too many streams of this caller are open", delay)
        self._all_streams = Running(self._limits.streams, "the broker has too many streams open", delay)
        self._streams_end = False
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def wrap(self, method: Method, serve: Serve) -> Callable[[bytes, Context], Awaitable[bytes | None]]:
        """Return the RPC as gRPC calls it: bytes in, bytes out, so that nothing is parsed before it may be."""
        return self._surround(method, partial(self._answer, method, serve))

    def wrap_stream(self, method: Method, serve: Stream) -> Callable[[bytes, Context], Awaitable[bytes | None]]:
        """Return a streaming RPC as gRPC calls it: bytes in; what goes out is written to the context."""
        return self._surround(method, partial(self._stream, serve))

    def _surround(self, method: Method, answer: _Answer) -> Callable[[bytes, Context], Awaitable[bytes | None]]:
        action = Action.TOKEN_DENY if method.service == TOKEN_SERVICE else Action.RPC_DENY

        async def run(unverified_request: bytes, context: Context) -> bytes | None:
            started = self._clock.boottime()
            metadata = _pairs(context)
            trail = self._open_trail(method, context, metadata)
            address = address_of(trail.peer)
            outcome = CANCELLED
            detail = ""
            place = Place(self._all, self._of_peer, self._of_caller, address)
            try:
                try:
                    admitted = await self._admit(method, unverified_request, context, metadata, trail, place)
                    reply = await answer(context, admitted, place)
                except asyncio.CancelledError:
                    # The caller's own clock ends the call, and what says so may be here before ours agrees.
                    outcome = EXPIRED if _time_left(context) < LEAST_TIME else CANCELLED
                    self._record_denial.ended_early(trail, action, outcome.reason, address=address)
                    raise
                except BrokerError as error:
                    outcome, detail = status_of(error, self._jitter), error.cause
                except Exception as bug:  # noqa: BLE001 - the last line: whatever it is, the peer must not see it
                    _log_bug(trail, bug)
                    outcome = INTERNAL
                else:
                    outcome = SERVED
                    return reply
                await self._record_denial(trail, action, outcome.reason, address=address, detail=detail)
            finally:
                place.leave()
                elapsed = self._clock.boottime() - started
                self._telemetry.request_finished(method.full_name, outcome.code.name, outcome.reason, elapsed)
            await context.abort(outcome.code, outcome.text, outcome.trailing)
            raise AssertionError  # abort does not return

        return run

    def end_streams(self) -> None:
        """End every stream, so that those who read it go elsewhere; calls go on."""
        self._streams_end = True

    async def _admit(  # noqa: PLR0913 - what one call is made of
        self,
        method: Method,
        unverified_request: bytes,
        context: Context,
        metadata: Mapping[str, tuple[str | bytes, ...]],
        trail: Trail,
        place: Place,
    ) -> _Admitted:
        """Return the call of a proved caller that may make it."""
        self._check_time_and_load(context, place)
        await self._spend_before_authentication(place.address)
        credentials = Credentials.of(metadata, context.auth_context())
        proof = await self._authenticate(credentials)
        if method.is_admin:
            await self._follow()  # an operator's key or role that ended on another replica has ended here
            if proof.tag != self._authenticate.tag():
                proof = await self._authenticate(credentials)
        trail.actor = str(proof.caller)
        place.becomes_of(trail.actor)
        catalog = self._catalog()
        roles = roles_of(catalog.roles, proof.caller)
        if method.roles and not method.roles & roles:
            needed = ", ".join(sorted(method.roles))
            raise RoleRequiredError("the call needs a role this caller does not hold", metadata={"role": needed})
        if method.is_admin:
            await self._limiter.spend(LimitTarget.ADMIN, {"caller": trail.actor})
        return _Admitted(_parse(method, unverified_request), Call(proof.caller, roles, trail), credentials, proof)

    async def _answer(self, method: Method, serve: Serve, _: Context, admitted: _Admitted, _place: Place) -> bytes:
        reply = await serve(admitted.request, admitted.call)
        if method.is_admin:
            await self._follow()
        elif admitted.proof.tag != self._authenticate.tag():
            # Keys or issuers may have changed while the call ran: no token for a caller that is none any more.
            await self._authenticate(admitted.credentials)
        reply_bytes: bytes = reply.SerializeToString()
        return reply_bytes

    async def _stream(self, serve: Stream, context: Context, admitted: _Admitted, place: Place) -> None:
        """Write what the servicer yields, as long as the caller is one; a stream is counted apart from calls."""
        place.leave()
        caller = str(admitted.call.caller)
        self._streams.enter(caller)
        self._all_streams.enter("")
        try:
            self._all_streams.check("")
            self._streams.check(caller)
            async with aclosing(serve(admitted.request, admitted.call)) as messages:
                proof, proved_at = admitted.proof, self._clock.boottime()
                async for message in messages:
                    if self._streams_end:
                        return
                    now = self._clock.boottime()
                    if message is not None or proof.tag != self._authenticate.tag() or now - proved_at > PROVED_FOR:
                        proof, proved_at = await self._authenticate(admitted.credentials), now
                    if message is not None:
                        await context.write(message.SerializeToString())
        finally:
            self._streams.leave(caller)
            self._all_streams.leave("")

    def _check_time_and_load(self, context: Context, place: Place) -> None:
        if _time_left(context) < LEAST_TIME:
            raise DeadlineTooShortError("too little of the deadline was left to start")
        place.check()

    async def _spend_before_authentication(self, address: str) -> None:
        of_peer = Charge("peer", ("edge", "peer", address), self._peer.emission_interval, self._peer.tolerance)
        decision = await self._buckets.spend((of_peer, self._everybody))
        if not decision.allowed:
            wait = None if decision.retry_after is None else decision.retry_after / MICROSECONDS
            raise OverloadedError("too many calls; come back after the retry delay", retry_after=wait)

    def _open_trail(self, method: Method, context: Context, metadata: Mapping[str, tuple[str | bytes, ...]]) -> Trail:
        given = metadata.get("x-request-id", ("",))[0]
        kept = given if isinstance(given, str) and CALLER_REQUEST_ID.fullmatch(given) else ""
        number = next(self._numbers)
        return Trail(method.full_name, context.peer(), f"{self._prefix}-{number}", caller_request_id=kept)


def _pairs(context: Context) -> dict[str, tuple[str | bytes, ...]]:
    """Return the metadata with all values of each key."""
    found: dict[str, tuple[str | bytes, ...]] = {}
    for key, value in context.invocation_metadata() or ():  # None at times
        found[key] = (*found.get(key, ()), value)
    return found


def _time_left(context: Context) -> float:
    left = context.time_remaining()
    return float("inf") if left is None else left  # type: ignore[redundant-expr]  # None without a deadline


def _parse(method: Method, unverified_request: bytes) -> Message:
    try:
        return method.request.FromString(unverified_request)
    except DecodeError:
        raise InvalidRequestError("the request is not a message of this method") from None


def _log_bug(trail: Trail, bug: BaseException) -> None:
    """Log where it happened and of what type; the exception's text may hold anything, so it stays out."""
    log.error(
        "rpc_failed",
        method=trail.method,
        request_id=trail.request_id,
        error=type(bug).__qualname__,
        cause=type(bug.__cause__ or bug.__context__).__qualname__ if bug.__cause__ or bug.__context__ else "",
        frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(bug.__traceback__)],
    )
