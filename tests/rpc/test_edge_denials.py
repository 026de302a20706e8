"""Bad input at the edge over a real socket: each has its status, its reason and its audit event."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from aries.broker.admin.v1 import keys_pb2, keys_pb2_grpc
from aries.broker.v1 import token_pb2
from broker.core.errors import AuditUnavailableError, PolicyDeniedError, RateLimitedError
from broker.core.identity import Role
from broker.core.models import ApiKey, Limit, LimitTarget, Origin, Window
from broker.flows.obtain import MAX_WAITING
from broker.rpc.call import Call
from broker.rpc.edge import EdgeLimits
from broker.rpc.listeners import MAX_STREAMS, ListenerConfig
from broker.rpc.methods import KEYS_SERVICE
from tests.rpc.kit import ACCESS_TOKEN, WISH, Keys, Kit, bearer, read_refusal, refusal, role, token_stub
from tests.support.waiting import ENOUGH, until

CODE = grpc.StatusCode
METHOD = "/aries.broker.v1.TokenService/GetToken"


class KeysServicer:
    """Answers ListApiKeys."""

    async def create_api_key(self, request: keys_pb2.CreateApiKeyRequest, call: Call) -> keys_pb2.CreateApiKeyResponse:
        return keys_pb2.CreateApiKeyResponse(key=keys_pb2.ApiKey(name=request.name))

    async def list_api_keys(self, request: keys_pb2.ListApiKeysRequest, call: Call) -> keys_pb2.ListApiKeysResponse:
        return keys_pb2.ListApiKeysResponse(keys=[keys_pb2.ApiKey(name=str(call.caller))])

    async def disable_api_key(
        self, request: keys_pb2.DisableApiKeyRequest, call: Call
    ) -> keys_pb2.DisableApiKeyResponse:
        return keys_pb2.DisableApiKeyResponse()


@asynccontextmanager
async def keys_stub(port: int) -> AsyncIterator[keys_pb2_grpc.KeysServiceAsyncStub]:
    """Yield a stub of KeysService over a channel of its own."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield keys_pb2_grpc.KeysServiceStub(channel)


def _wish(**fields: object) -> token_pb2.GetTokenRequest:
    wish = token_pb2.GetTokenRequest(grant="desk", scopes=["read"])
    for name, value in fields.items():
        if name == "scopes":
            del wish.scopes[:]
            wish.scopes.extend(value)  # type: ignore[arg-type]
        elif name == "min_lifetime":
            wish.min_lifetime.CopyFrom(value)  # type: ignore[arg-type]
        else:
            setattr(wish, name, value)
    return wish


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (_wish(scopes=[]), "scopes"),
        (_wish(scopes=["Read"]), "scopes"),
        (_wish(scopes=["read trade"]), "scopes"),
        (_wish(scopes=[f"scope{number}" for number in range(1000)]), "scopes"),
        (_wish(resource="not a uri"), "resource"),
        (_wish(resource="relative/path"), "resource"),
        (_wish(resource="https://api.example/#part"), "resource"),
        (_wish(resource="https://api.example/" + "a" * 600), "resource"),
        (_wish(min_lifetime=Duration(seconds=-1)), "min_lifetime"),
        (_wish(min_lifetime=Duration(nanos=-1)), "min_lifetime"),
        (_wish(min_lifetime=Duration(seconds=1, nanos=2_000_000_000)), "min_lifetime"),
        (_wish(min_lifetime=Duration(seconds=2**62)), "min_lifetime"),
    ],
    ids=range(12),
)
async def test_a_malformed_request_names_its_field(wish: token_pb2.GetTokenRequest, field: str) -> None:
    """INVALID_REQUEST, the field in a BadRequest, and a denial of the known caller."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(wish, metadata=bearer(key)))
    assert (CODE.INVALID_ARGUMENT, "INVALID_REQUEST", "broker.aries") == (told.code, told.reason, told.domain)
    assert [field] == list(told.fields)
    assert [("token:deny", "key:orders", "INVALID_REQUEST")] == [
        (event.action, event.actor, event.reason) for event in kit.sink.durable
    ]


async def test_bytes_that_are_no_message() -> None:
    """A body that does not parse is the caller's fault, and told so only to callers."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        nobody = await refusal(raw(b"\xff\xff"))
        caller = await refusal(raw(b"\xff\xff", metadata=bearer(key)))
    assert ("CALLER_UNAUTHENTICATED", "INVALID_REQUEST") == (nobody.reason, caller.reason)


async def test_a_megabyte_is_refused_by_the_transport() -> None:
    """A request over 64 KiB never reaches a servicer; it has its status only."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(_wish(grant="g" * 1_000_000), metadata=bearer(key)))
    assert CODE.RESOURCE_EXHAUSTED == told.code
    assert [] == kit.get_token.requests


async def test_metadata_over_its_bound_is_refused_by_the_transport() -> None:
    """20 KiB of metadata never reach a servicer."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=(*bearer(key), ("x-much", "m" * 20_000))))
    assert CODE.RESOURCE_EXHAUSTED == told.code
    assert [] == kit.get_token.requests


@pytest.mark.parametrize(
    ("metadata", "cause"),
    [
        ((), "no_credential"),
        ((("authorization", "Bearer one"), ("authorization", "Bearer two")), "several_credentials"),
        ((("authorization", "Basic dXNlcjpwYXNz"),), "bearer_malformed"),
        ((("authorization", "Bearer"),), "bearer_malformed"),
        ((("authorization", "Bearer one two"),), "bearer_malformed"),
        ((("authorization", "Bearer " + "a" * 9000),), "bearer_malformed"),
        ((("authorization", "Bearer abk_0123456789abcdef_short"),), "api_key_malformed"),
        ((("authorization", "Bearer abk_0123456789abcdef_" + "a" * 43),), "api_key_unknown"),
    ],
    ids=range(8),
)
async def test_bearers_that_prove_nobody(metadata: tuple[tuple[str, str], ...], cause: str) -> None:
    """All are told the same; only the audit event says why."""
    kit = Kit()
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=metadata))
    assert (CODE.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED") == (told.code, told.reason)
    assert "the caller did not prove who it is" == told.text
    assert [("", cause)] == [(event.actor, event.detail) for event in kit.sink.events]


async def test_a_wrong_id_costs_what_a_wrong_key_costs() -> None:
    """One lookup and one MAC, whether the id exists or not."""
    kit = Kit()
    key = kit.add_key("orders")
    wrong = key[:-43] + ("b" * 43)
    costs = []
    async with kit.serve() as (port,), token_stub(port) as stub:
        for unverified in (wrong, "abk_0123456789abcdef_" + "a" * 43):
            before = (kit.keys.lookups, kit.macs.calls)
            await refusal(stub.GetToken(WISH, metadata=bearer(unverified)))
            costs.append((kit.keys.lookups - before[0], kit.macs.calls - before[1]))
    assert [(1, 1), (1, 1)] == costs


async def test_a_disabled_or_ended_key_proves_nobody() -> None:
    """A disabled key, and a bootstrap key past its end or beside another admin."""
    kit = Kit()
    soon = int(kit.clock.now()) + 3600
    keys = [kit.add_key("gone", disabled=True), kit.add_key("old", bootstrap_until=soon - 7200)]
    first = kit.add_key("first", bootstrap_until=soon)
    async with kit.serve() as (port,), token_stub(port) as stub:
        for key in keys:
            assert "CALLER_UNAUTHENTICATED" == (await refusal(stub.GetToken(WISH, metadata=bearer(key)))).reason
        await stub.GetToken(WISH, metadata=bearer(first))
        kit.catalog = replace(kit.catalog, version=2, roles=(role(Role.ADMIN, "key:first", "key:alice"),))
        await stub.GetToken(WISH, metadata=bearer(first))  # no key of that name: nobody else can act yet
        kit.add_key("alice")
        kit.catalog = replace(kit.catalog, version=3)
        told = await refusal(stub.GetToken(WISH, metadata=bearer(first)))
    assert "CALLER_UNAUTHENTICATED" == told.reason
    assert ["api_key_disabled", "bootstrap_key_over", "bootstrap_key_over"] == [
        event.detail for event in kit.sink.events
    ]


async def test_a_key_disabled_while_its_call_runs_gets_no_token() -> None:
    """What the authentication rested on moved, so the caller is proved again before the token leaves."""
    kit = Kit()
    key = kit.add_key("orders")

    async def disable() -> None:
        kit.keys.rows = {row.id: replace(row, disabled=True) for row in kit.keys.rows.values()}
        kit.catalog = replace(kit.catalog, version=2)

    kit.get_token.before = disable
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=bearer(key)))
    assert "CALLER_UNAUTHENTICATED" == told.reason


async def test_a_flow_error_travels_with_its_details() -> None:
    """Status, reason, metadata and the lengthened waiting time; the private cause stays in the audit event."""
    kit = Kit()
    key = kit.add_key("orders")
    kit.get_token.error = RateLimitedError(
        "slower, please", cause="private words", metadata={"limit": "per-caller"}, retry_after=2.0
    )
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=bearer(key)))
    assert (CODE.RESOURCE_EXHAUSTED, "slower, please") == (told.code, told.text)
    assert ({"limit": "per-caller"}, 2.2) == (told.metadata, told.retry_after)
    assert ["private words"] == [event.detail for event in kit.sink.durable]


async def test_a_bug_tells_the_peer_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """INTERNAL with a fixed text; neither the peer, nor the log, nor the audit event sees the exception's text."""
    kit = Kit()
    key = kit.add_key("orders")
    kit.get_token.error = KeyError(f"secret {ACCESS_TOKEN}")
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=bearer(key)))
    assert (CODE.INTERNAL, "an error of the broker; its log has the details", "") == (told.code, told.text, told.reason)
    assert ["INTERNAL"] == [event.reason for event in kit.sink.durable]
    printed = "".join(capsys.readouterr())
    assert "KeyError" in printed
    assert ACCESS_TOKEN not in printed + repr(kit.sink.events)


async def test_too_little_of_the_deadline() -> None:
    """A call that arrives with less than 50 ms left is answered at once, before anybody is authenticated."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        await stub.GetToken(WISH, metadata=bearer(key))
        kit.sink.events.clear()
        told = []
        while not kit.sink.events:  # on a busy machine the deadline may pass before the call arrives
            told.append(await refusal(stub.GetToken(WISH, metadata=bearer(key), timeout=0.045)))
    assert {CODE.DEADLINE_EXCEEDED} == {one.code for one in told}
    assert ("", "DEADLINE_EXCEEDED") == (kit.sink.events[0].actor, kit.sink.events[0].reason)
    assert 1 == len(kit.get_token.requests)


async def test_a_deadline_of_a_millisecond() -> None:
    """The caller is told DEADLINE_EXCEEDED, and no flow starts."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=bearer(key), timeout=0.001))
    assert CODE.DEADLINE_EXCEEDED == told.code
    assert [] == kit.get_token.requests


@pytest.mark.parametrize(("deadline", "reason"), [(None, "CANCELLED"), (0.3, "DEADLINE_EXCEEDED")])
async def test_a_caller_that_leaves_is_recorded(deadline: float | None, reason: str) -> None:
    """A cancelled or expired call ends as such in metrics and audit, with its actor."""
    kit = Kit()
    key = kit.add_key("orders")
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    kit.get_token.before = hang
    async with kit.serve() as (port,), token_stub(port) as stub:
        call = stub.GetToken(WISH, metadata=bearer(key), timeout=deadline)
        running = asyncio.ensure_future(refusal(call))
        await started.wait()
        if deadline is None:
            call.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.wait_for(ended.wait(), ENOUGH)
        await asyncio.wait_for(kit.telemetry.counted.wait(), ENOUGH)
    assert [("key:orders", reason)] == [(event.actor, event.reason) for event in kit.sink.events]
    assert {(METHOD, reason, reason): 1} == dict(kit.telemetry.requests)


async def test_one_address_cannot_take_everything() -> None:
    """Past its bucket an address is shed before authentication, and told when to come back."""
    kit = Kit(limits=EdgeLimits(peer=Window(Fraction(1, 10), 2)))
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = [await refusal(stub.GetToken(WISH)) for _ in range(3)]
    assert ["CALLER_UNAUTHENTICATED", "CALLER_UNAUTHENTICATED", "OVERLOADED"] == [one.reason for one in told]
    assert CODE.RESOURCE_EXHAUSTED == told[2].code
    assert told[2].retry_after is not None
    assert 8.0 < told[2].retry_after < 12.0


async def test_calls_in_flight_are_bounded() -> None:
    """The call over the cap is shed at once with a waiting time; those running are not disturbed."""
    kit = Kit(limits=EdgeLimits(in_flight=1))
    key = kit.add_key("orders")
    started, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        started.set()
        await go_on.wait()

    kit.get_token.before = hold
    async with kit.serve() as (port,), token_stub(port) as stub:
        first = asyncio.ensure_future(stub.GetToken(WISH, metadata=bearer(key)))
        await started.wait()
        told = await refusal(stub.GetToken(WISH, metadata=bearer(key)))
        go_on.set()
        assert ACCESS_TOKEN == (await first).access_token
        assert ACCESS_TOKEN == (await stub.GetToken(WISH, metadata=bearer(key))).access_token
    assert (CODE.RESOURCE_EXHAUSTED, "OVERLOADED", 1.1) == (told.code, told.reason, told.retry_after)


async def test_a_caller_does_not_take_every_place() -> None:
    """Past its share a caller is shed with a waiting time; another caller's share is its own."""
    kit = Kit(limits=EdgeLimits(in_flight_of_caller=2))
    orders, reports = kit.add_key("orders"), kit.add_key("reports")
    both_run, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        if len(kit.get_token.requests) == 2:
            both_run.set()
        if len(kit.get_token.requests) <= 2:
            await go_on.wait()

    kit.get_token.before = hold
    async with kit.serve() as (port,), token_stub(port) as stub:
        running = [asyncio.ensure_future(stub.GetToken(WISH, metadata=bearer(orders))) for _ in range(2)]
        await both_run.wait()
        over = await refusal(stub.GetToken(WISH, metadata=bearer(orders)))
        beside = await stub.GetToken(WISH, metadata=bearer(reports))
        go_on.set()
        await asyncio.gather(*running)
    told = "too many calls of this caller run"
    assert (CODE.RESOURCE_EXHAUSTED, "OVERLOADED", told, 1.1) == (over.code, over.reason, over.text, over.retry_after)
    assert ACCESS_TOKEN == beside.access_token


async def test_services_behind_one_address_do_not_share_a_share() -> None:
    """Calls whose callers are known do not count as their address's, so that a cluster behind one is served whole."""
    kit = Kit(limits=EdgeLimits(in_flight_of_peer=1))
    all_run = asyncio.Event()

    async def hold() -> None:
        if len(kit.get_token.requests) == 5:
            all_run.set()
        await all_run.wait()

    kit.get_token.before = hold
    async with kit.serve() as (port,), token_stub(port) as stub:
        replies = []
        for number in range(5):
            key = kit.add_key(f"service-{number}")
            replies.append(asyncio.ensure_future(stub.GetToken(WISH, metadata=bearer(key))))
            await until(lambda: len(kit.get_token.requests) == len(replies))
        assert [ACCESS_TOKEN] * 5 == [reply.access_token for reply in await asyncio.gather(*replies)]


class SlowKeys(Keys):
    """Keys that are found when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def find_api_key(self, key_id: str) -> ApiKey | None:
        await self.go_on.wait()
        return await super().find_api_key(key_id)


async def test_an_address_does_not_take_every_place_with_callers_unknown() -> None:
    """Past its share of calls that are being proved, or fail to be, an address is shed, whatever it would show."""
    keys = SlowKeys()
    kit = Kit(limits=EdgeLimits(in_flight_of_peer=2), keys=keys)
    orders = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        nobody = asyncio.ensure_future(refusal(stub.GetToken(WISH, metadata=bearer(Kit().add_key("unknown here")))))
        known = asyncio.ensure_future(stub.GetToken(WISH, metadata=bearer(orders)))
        await until(lambda: {"127.0.0.1": 2} == kit.served._of_peer._running)
        over = await refusal(stub.GetToken(WISH, metadata=bearer(orders)))
        keys.go_on.set()
        assert (ACCESS_TOKEN, "CALLER_UNAUTHENTICATED") == ((await known).access_token, (await nobody).reason)
        await until(lambda: 0 == len(kit.served._of_peer))
        assert ACCESS_TOKEN == (await stub.GetToken(WISH, metadata=bearer(orders))).access_token
    told = "too many calls of this address run whose callers are not known yet"
    assert (CODE.RESOURCE_EXHAUSTED, "OVERLOADED", told, 1.1) == (over.code, over.reason, over.text, over.retry_after)


async def test_a_burst_on_one_connection_is_answered_by_the_edge() -> None:
    """Of 300 calls at once on one channel each gets a token or the edge's own reason; the transport refuses none."""
    kit = Kit()
    key = kit.add_key("orders")
    share_runs = asyncio.Event()
    kit.get_token.before = share_runs.wait
    async with kit.serve() as (port,), token_stub(port) as stub:
        calls = [asyncio.ensure_future(stub.GetToken(WISH, metadata=bearer(key))) for _ in range(300)]
        await until(lambda: sum(call.done() for call in calls) == 300 - kit.limits.in_flight_of_caller)
        share_runs.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
    told = Counter(read_refusal(one).reason if isinstance(one, grpc.aio.AioRpcError) else "" for one in ended)
    assert {"": kit.limits.in_flight_of_caller, "OVERLOADED": 300 - kit.limits.in_flight_of_caller} == told


async def test_places_come_back_however_calls_end() -> None:
    """After served, refused, unproved, failed, shed and cancelled calls nothing is counted or remembered."""
    kit = Kit(limits=EdgeLimits(in_flight_of_caller=1, in_flight_of_peer=2))
    key = kit.add_key("orders")
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    async with kit.serve() as (port,), token_stub(port) as stub:
        await stub.GetToken(WISH, metadata=bearer(key))
        reasons = [(await refusal(stub.GetToken(WISH))).reason]
        for error in (RateLimitedError("slower", retry_after=1.0), KeyError("bug")):
            kit.get_token.error = error
            reasons.append((await refusal(stub.GetToken(WISH, metadata=bearer(key)))).reason)
        kit.get_token.error, kit.get_token.before = None, hang
        call = stub.GetToken(WISH, metadata=bearer(key))
        running = asyncio.ensure_future(call)
        await started.wait()
        reasons.append((await refusal(stub.GetToken(WISH, metadata=bearer(key)))).reason)
        call.cancel()
        await asyncio.wait([running])
        await until(lambda: (0, 0) == (len(kit.served._of_caller), len(kit.served._of_peer)))
        kit.get_token.before = None
        assert ACCESS_TOKEN == (await stub.GetToken(WISH, metadata=bearer(key))).access_token
    assert ["CALLER_UNAUTHENTICATED", "RATE_LIMITED", "", "OVERLOADED"] == reasons


def test_shares_leave_room_for_others() -> None:
    """Those who wait for a provider take not all that may run; a connection carries a caller's or address's share."""
    limits = EdgeLimits()
    assert (limits.in_flight // 10, limits.in_flight // 4) == (limits.in_flight_of_caller, limits.in_flight_of_peer)
    assert limits.in_flight > MAX_WAITING
    assert max(limits.in_flight_of_caller, limits.in_flight_of_peer) < MAX_STREAMS


async def test_roles_are_required() -> None:
    """An admin RPC needs one of the roles of its row; the refusal names them."""
    kit = Kit()
    auditor, orders = kit.add_key("auditor"), kit.add_key("orders")
    kit.catalog = replace(kit.catalog, roles=(role(Role.AUDITOR, "key:auditor"),))
    async with kit.serve(admin={KEYS_SERVICE: KeysServicer()}) as (port,), keys_stub(port) as stub:
        listed = await stub.ListApiKeys(keys_pb2.ListApiKeysRequest(), metadata=bearer(auditor))
        reader = await refusal(stub.CreateApiKey(keys_pb2.CreateApiKeyRequest(), metadata=bearer(auditor)))
        nobody = await refusal(stub.ListApiKeys(keys_pb2.ListApiKeysRequest(), metadata=bearer(orders)))
    assert ["key:auditor"] == [key.name for key in listed.keys]
    assert (CODE.PERMISSION_DENIED, "ROLE_REQUIRED", {"role": "admin"}) == (reader.code, reader.reason, reader.metadata)
    assert {"role": "admin, auditor, operator"} == nobody.metadata
    assert ["rpc:deny", "rpc:deny"] == [event.action for event in kit.sink.durable]


async def test_admin_limits_are_spent_per_caller() -> None:
    """Limits that apply to `admin` are paid by every admin call."""
    kit = Kit()
    auditor = kit.add_key("auditor")
    limit = Limit("l1", "ops", Origin.FILE, LimitTarget.ADMIN, ("caller",), (Window(Fraction(1, 60), 1),))
    kit.catalog = replace(kit.catalog, roles=(role(Role.AUDITOR, "key:auditor"),), limits=(limit,))
    async with kit.serve(admin={KEYS_SERVICE: KeysServicer()}) as (port,), keys_stub(port) as stub:
        await stub.ListApiKeys(keys_pb2.ListApiKeysRequest(), metadata=bearer(auditor))
        told = await refusal(stub.ListApiKeys(keys_pb2.ListApiKeysRequest(), metadata=bearer(auditor)))
    assert ("RATE_LIMITED", {"limit": "ops"}) == (told.reason, told.metadata)


async def test_admin_answers_only_where_it_may() -> None:
    """On a listener without admin the admin methods do not exist; nor do methods nobody listed."""
    kit = Kit()
    listeners = (ListenerConfig("127.0.0.1:0", admin=False), ListenerConfig("127.0.0.1:0"))
    codes = []
    async with kit.serve(*listeners, admin={KEYS_SERVICE: KeysServicer()}) as ports:
        for port in ports:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                for method in (f"/{KEYS_SERVICE}/ListApiKeys", f"/{KEYS_SERVICE}/DropEverything"):
                    raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
                    codes.append((await refusal(raw(b""))).code)
    assert [CODE.UNIMPLEMENTED, CODE.UNIMPLEMENTED, CODE.UNAUTHENTICATED, CODE.UNIMPLEMENTED] == codes


async def test_request_ids_are_ours() -> None:
    """Each call has a new id of ours; the caller's own is kept apart, and only if it is short and plain."""
    kit = Kit()
    given = ["job-7.a_B", "x" * 65, "two words"]
    async with kit.serve() as (port,), token_stub(port) as stub:
        for text in given:
            await refusal(stub.GetToken(WISH, metadata=(("x-request-id", text),)))
    assert ["job-7.a_B", "", ""] == [event.caller_request_id for event in kit.sink.events]
    assert 3 == len({event.request_id for event in kit.sink.events})
    assert all(event.peer.startswith("ipv4:127.0.0.1:") for event in kit.sink.events)


async def test_denials_of_nobody_are_ten_and_a_count() -> None:
    """The first ten of an address and minute are recorded in full, the rest as one event that counts them."""
    kit = Kit()
    async with kit.serve() as (port,), token_stub(port) as stub:
        for _ in range(15):
            await refusal(stub.GetToken(WISH))
        assert 10 == len(kit.sink.events)
        kit.clock.ahead = 61
        await refusal(stub.GetToken(WISH))
    assert [1] * 10 + [5, 1] == [event.count for event in kit.sink.events]
    assert [] == kit.sink.durable


async def test_counted_denials_are_recorded_at_the_end() -> None:
    """Closing records what is still counted, so that nothing is lost with the process."""
    kit = Kit()
    async with kit.serve() as (port,), token_stub(port) as stub:
        for _ in range(12):
            await refusal(stub.GetToken(WISH))
    assert [1] * 10 + [2] == [event.count for event in kit.sink.events]


async def test_denials_of_callers_are_durable_up_to_a_rate() -> None:
    """Sixty of a caller and minute are waited for; more are counted."""
    kit = Kit()
    key = kit.add_key("orders")
    kit.get_token.error = PolicyDeniedError("no")
    async with kit.serve() as (port,), token_stub(port) as stub:
        for _ in range(70):
            await refusal(stub.GetToken(WISH, metadata=bearer(key)))
    assert (60, [10]) == (len(kit.sink.durable), [event.count for event in kit.sink.events if event.count > 1])


async def test_a_broken_audit_leaves_a_denial_a_denial() -> None:
    """The caller is told what it would be told anyway, soon; what was not stored is counted."""
    kit = Kit()
    key = kit.add_key("orders")
    kit.get_token.error = PolicyDeniedError("no")
    kit.sink.broken = AuditUnavailableError("the audit store is away")
    kit.sink.full = True
    async with kit.serve() as (port,), token_stub(port) as stub:
        known = await refusal(stub.GetToken(WISH, metadata=bearer(key)))
        nobody = await refusal(stub.GetToken(WISH))
    assert ("POLICY_DENIED", "CALLER_UNAUTHENTICATED") == (known.reason, nobody.reason)
    assert 2 == kit.telemetry.dropped


async def test_an_audit_that_hangs_holds_a_denial_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that breaks its promise to end does not hold the caller."""
    monkeypatch.setattr("broker.flows.record_denial.PATIENCE", 0.05)
    kit = Kit()
    key = kit.add_key("orders")
    kit.get_token.error = PolicyDeniedError("no")
    kit.sink.gate = asyncio.Event().wait
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await asyncio.wait_for(refusal(stub.GetToken(WISH, metadata=bearer(key))), ENOUGH)
    assert "POLICY_DENIED" == told.reason


async def test_an_audit_that_is_away_is_not_asked_twice() -> None:
    """A call refused because the audit is away does not wait for the audit again."""
    kit = Kit()
    key = kit.add_key("orders")
    kit.get_token.error = AuditUnavailableError("the audit event could not be stored")
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=bearer(key)))
    assert (CODE.UNAVAILABLE, "AUDIT_UNAVAILABLE") == (told.code, told.reason)
    assert ([], 1) == (kit.sink.durable, len(kit.sink.events))
