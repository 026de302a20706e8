"""A provider that grants what was not asked: no wider token in a caller's hand, no grant that lost scopes."""

from __future__ import annotations

import grpc
import pytest

from aries.broker.admin.v1 import config_pb2
from aries.broker.v1 import token_pb2
from tests.support.world import READ, TRADE, World

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
KINDS = ["client_credentials", "refresh_token"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behaviour", ["ignore", "wider"])
@pytest.mark.parametrize(
    ("reply_scope", "scope_claim"),
    [("granted", "absent"), ("granted", "string"), ("asked", "string"), ("asked", "list"), ("absent", "list")],
)
async def test_a_wider_token_is_withheld(
    on_sqlite: World, kind: str, behaviour: str, reply_scope: str, scope_claim: str
) -> None:
    """Whether the reply or the token itself says it: SCOPE_EXCEEDED, again and again, and the grant is as it was."""
    desk = await on_sqlite.desk(kind)
    await on_sqlite.sandbox.behave(scope_reply=behaviour, reply_scope=reply_scope, scope_claim=scope_claim)
    for _ in range(2):
        told = await desk.refused("read")
        assert (CODE.FAILED_PRECONDITION, "SCOPE_EXCEEDED") == (told.status, told.reason)
        if behaviour == "wider":  # where a word nobody configured is among them, none is told
            assert {"excess": "order:execution"} == told.metadata
    assert [("token:deny", "SCOPE_EXCEEDED")] * 2 == await desk.events()
    status = (await on_sqlite.grant_status(desk.grant)).grant
    assert ("idle", "ok", ["read", "trade"]) == (status.phase, status.health, list(status.scopes))
    await on_sqlite.sandbox.behave(scope_reply="honest", reply_scope="granted")
    assert sorted(TRADE) == list((await desk.get("trade")).provider_scopes)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_excess_nobody_listed_is_withheld(world: World, kind: str) -> None:
    """What policy accepts beyond the request is a list: one scope more than it, and the token stays here."""
    desk = await world.desk(kind, accept_excess=["trade"])
    await world.sandbox.behave(scope_reply="wider", wider_scopes=["order:execution", "withdraw"])
    told = await desk.refused("read")
    assert ("SCOPE_EXCEEDED", {"excess": "withdraw"}) == (told.reason, told.metadata)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_narrower_token_is_not_handed_out_for_more(on_sqlite: World, kind: str) -> None:
    """SCOPE_NOT_GRANTED names what is missing."""
    desk = await on_sqlite.desk(kind)
    await on_sqlite.sandbox.behave(scope_reply="narrower")
    told = await desk.refused("read")
    assert (CODE.FAILED_PRECONDITION, "SCOPE_NOT_GRANTED") == (told.status, told.reason)
    assert {"missing": max(READ)} == told.metadata
    assert ("idle", "ok") == await desk.state()


async def test_silence_is_no_yes_where_it_is_said_to_be_none(on_sqlite: World) -> None:
    """A provider set to `refuse` that states no scopes: SCOPE_NOT_GRANTED."""
    await on_sqlite.sandbox.behave(reply_scope="absent", scope_claim="absent")
    desk = await on_sqlite.desk(provider="exacting")
    assert "SCOPE_NOT_GRANTED" == (await desk.refused("read")).reason


@pytest.mark.parametrize("narrowing", ["additional", "sticky", "ignored"])
async def test_an_unproved_provider_is_never_sent_a_scope(on_sqlite: World, narrowing: str) -> None:
    """The grant serves its whole set, as often as asked; less is refused without a call, so nothing can stick."""
    await on_sqlite.sandbox.behave(narrowing=narrowing, access_token_seconds=6)  # a second call needs a second redeem
    desk = await on_sqlite.desk("refresh_token", provider="unproved")
    before = (await on_sqlite.sandbox.counters())["token_calls"]
    told = await desk.refused("read")
    assert (CODE.FAILED_PRECONDITION, "SCOPE_NOT_GRANTED") == (told.status, told.reason)
    assert before == (await on_sqlite.sandbox.counters())["token_calls"]
    reply = await desk.get("read", "trade")
    assert sorted(READ | TRADE) == list(reply.provider_scopes)
    counted = (await on_sqlite.sandbox.counters())["last_token_call"]
    assert ("refresh_token", None) == (counted["grant_type"], counted["scope"])
    newest = list(on_sqlite.sandbox.running.state.refresh_tokens.values())[-1]
    assert READ | TRADE == newest.scopes


async def test_an_ignored_narrowing_is_noticed(world: World) -> None:
    """A provider proved to narrow that ignores the scope one day: the wider token is withheld, the grant whole."""
    await world.sandbox.behave(narrowing="ignored")
    desk = await world.desk("refresh_token")
    assert "SCOPE_EXCEEDED" == (await desk.refused("read")).reason
    whole = await desk.get("read", "trade")
    assert token_pb2.NARROWING_EXACT == whole.narrowing


async def test_a_narrowed_refresh_keeps_the_grant_whole(world: World) -> None:
    """Where `additional` was proved: a part is got, then the whole, and the provider's token has all scopes."""
    desk = await world.desk("refresh_token")
    assert token_pb2.NARROWING_NARROWED == (await desk.get("read")).narrowing
    assert token_pb2.NARROWING_EXACT == (await desk.get("read", "trade")).narrowing
    newest = list(world.sandbox.running.state.refresh_tokens.values())[-1]
    assert READ | TRADE == newest.scopes


@pytest.mark.parametrize("narrowing", ["additional", "sticky", "ignored"])
async def test_prove_narrowing(on_sqlite: World, narrowing: str) -> None:
    """A throw-away grant shows what the provider does, which is noted at it; an operator then configures it."""
    await on_sqlite.sandbox.behave(narrowing=narrowing)
    assert narrowing == await on_sqlite.prove_narrowing("unproved")
    listed = await on_sqlite.call(on_sqlite.config.ListObjects, config_pb2.ListObjectsRequest(kind="provider"))
    (told,) = [item.provider for item in listed.objects if item.provider.name == "unproved"]
    assert ("unproved", narrowing) == (told.narrowing, told.proved_narrowing)
