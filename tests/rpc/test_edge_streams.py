"""Streams over a real socket: who may open them, how many, and what ends them."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import grpc

from aries.broker.v1 import token_pb2, token_pb2_grpc
from broker.core.errors import InvalidRequestError
from broker.flows.watch_revocations import Revocations
from broker.rpc.authenticate import CACHED_SECONDS
from broker.rpc.edge import PROVED_FOR, EdgeLimits
from tests.rpc.kit import ACCESS_TOKEN, WISH, Kit, Refusal, bearer, read_refusal, token_stub
from tests.support.waiting import ENOUGH, until

METHOD = "/aries.broker.v1.TokenService/WatchRevocations"
Stub: TypeAlias = "token_pb2_grpc.TokenServiceAsyncStub"
Watch: TypeAlias = "grpc.aio.UnaryStreamCall[token_pb2.WatchRevocationsRequest, token_pb2.WatchRevocationsResponse]"


def opened(stub: Stub, key: str, cursor: str = "") -> Watch:
    """Open a watch."""
    return stub.WatchRevocations(token_pb2.WatchRevocationsRequest(cursor=cursor), metadata=bearer(key))


async def told_by(watch: Watch) -> token_pb2.WatchRevocationsResponse:
    """Return the next response."""
    response = await watch.read()
    assert isinstance(response, token_pb2.WatchRevocationsResponse)
    return response


async def end_of(watch: Watch) -> Refusal:
    """Read a watch to its end and return what it ended with."""
    try:
        async with asyncio.timeout(ENOUGH):
            while await watch.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    return Refusal(await watch.code(), "")


async def test_what_happens_is_told() -> None:
    """Each response arrives as it is yielded; the servicer gets the caller and its cursor."""
    kit = Kit()
    key = kit.add_key("orders")
    kit.watch.to_tell = [Revocations("7", ("f0", "f1")), Revocations("8", drop_all=True)]
    async with kit.serve() as (port,), token_stub(port) as stub:
        watch = opened(stub, key, "5")
        assert "0" == (await told_by(watch)).cursor
        first, second = await told_by(watch), await told_by(watch)
        assert [("7", ["f0", "f1"], False), ("8", [], True)] == [
            (told.cursor, list(told.fingerprints), told.drop_all) for told in (first, second)
        ]
        watch.cancel()
        await until(lambda: kit.watch.open == 0)
    assert [("key:orders", "5")] == [(str(caller), cursor) for caller, cursor in kit.watch.watched]
    assert 1 == kit.telemetry.requests[METHOD, "CANCELLED", "CANCELLED"]


async def test_who_proves_nothing_watches_nothing() -> None:
    """The stream is refused before the servicer is asked, and recorded."""
    kit = Kit()
    async with kit.serve() as (port,), token_stub(port) as stub:
        assert "CALLER_UNAUTHENTICATED" == (await end_of(opened(stub, "abk_0_0"))).reason
    assert [] == kit.watch.watched
    assert ["CALLER_UNAUTHENTICATED"] == [event.reason for event in kit.sink.events]


async def test_it_ends_with_the_credential() -> None:
    """A key that is disabled while the stream is open ends it."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        watch = opened(stub, key)
        await watch.read()
        kit.keys.rows.clear()
        kit.store_version = 2
        assert "CALLER_UNAUTHENTICATED" == (await end_of(watch)).reason
    assert 0 == kit.watch.open


async def test_a_caller_has_few() -> None:
    """One too many is refused; those that are open go on, and do not count as calls."""
    kit = Kit(limits=EdgeLimits(streams_of_caller=2, in_flight=1))
    orders, reports = kit.add_key("orders"), kit.add_key("reports")
    async with kit.serve() as (port,), token_stub(port) as stub:
        watches = []
        for key in (orders, orders, reports):
            watches.append(opened(stub, key))
            await watches[-1].read()
        over = await end_of(opened(stub, orders))
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED") == (over.code, over.reason)
        assert ACCESS_TOKEN == (await stub.GetToken(WISH, metadata=bearer(orders))).access_token
        watches[0].cancel()
        await until(lambda: kit.watch.open == 2)
        assert "0" == (await told_by(opened(stub, orders))).cursor


async def test_it_ends_when_the_credential_runs_out() -> None:
    """Nothing moves in the store: the caller is proved anew after a while."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        watch = opened(stub, key)
        await told_by(watch)
        kit.keys.rows.clear()
        kit.clock.ahead = CACHED_SECONDS + PROVED_FOR
        assert "CALLER_UNAUTHENTICATED" == (await end_of(watch)).reason


async def test_all_callers_have_not_too_many() -> None:
    """One too many of all is refused."""
    kit = Kit(limits=EdgeLimits(streams=1))
    orders, reports = kit.add_key("orders"), kit.add_key("reports")
    async with kit.serve() as (port,), token_stub(port) as stub:
        await told_by(opened(stub, orders))
        assert "OVERLOADED" == (await end_of(opened(stub, reports))).reason


async def test_errors_of_the_flow_are_told() -> None:
    """As of any call, with their reason."""
    kit = Kit()
    key = kit.add_key("orders")
    kit.watch.to_tell = [InvalidRequestError("cursor: no", fields={"cursor": "no"})]
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await end_of(opened(stub, key))
    assert ("INVALID_REQUEST", {"cursor": "no"}) == (told.reason, told.fields)


async def test_a_broker_that_stops_ends_them() -> None:
    """Without an error and at once, though calls that run have their time."""
    kit = Kit()
    key = kit.add_key("orders")
    server = kit.server()
    (port,) = await server.start()
    async with token_stub(port) as stub:
        watch = opened(stub, key)
        await watch.read()
        async with asyncio.timeout(ENOUGH):
            _, end = await asyncio.gather(server.stop(10 * ENOUGH), end_of(watch))
    await kit.record_denial.close()
    assert (grpc.StatusCode.OK, 0) == (end.code, kit.watch.open)
