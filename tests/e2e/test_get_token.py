"""GetToken where everything goes well: a real broker process, a real store, a sandbox for a provider."""

from __future__ import annotations

import asyncio
import time

import pytest

from aries.broker.v1 import token_pb2
from aries_broker import AsyncClient, Narrowing
from tests.support.world import READ, TRADE, World, wire

pytestmark = pytest.mark.asyncio(loop_scope="session")

ORDER = {
    "tradingAccountId": "TA-1001",
    "symbol": "AAPL",
    "side": "BUY",
    "type": "LIMIT",
    "qty": "1",
    "price": "200.00",
    "timeInForce": "DAY",
}


@pytest.mark.parametrize("kind", ["client_credentials", "refresh_token"])
async def test_the_reply_is_what_the_contract_says(world: World, kind: str) -> None:
    """Every field of a reply: scopes in the request's words, the wire scopes carried, life, origins, fingerprint."""
    desk = await world.desk(kind)
    asked_at = time.time()
    reply = await desk.get("trade", "read", "trade")
    assert ("Bearer", ["read", "trade"], desk.grant) == (reply.token_type, list(reply.scopes), reply.grant)
    assert sorted(READ | TRADE) == list(reply.provider_scopes)
    assert [world.sandbox.url] == list(reply.api_origins)
    assert (token_pb2.NARROWING_EXACT, [], False) == (
        reply.narrowing,
        list(reply.excess_scopes),
        reply.lifetime_assumed,
    )
    lifetime = reply.lifetime.ToNanoseconds() / 1e9
    assert 3590 < lifetime <= 3600
    assert 0.61 * lifetime < reply.renew_after.ToNanoseconds() / 1e9 < 0.91 * lifetime
    assert abs(reply.expire_time.ToNanoseconds() / 1e9 - (asked_at + 3600)) < 10
    assert reply.fingerprint
    assert reply.fingerprint not in reply.access_token
    assert reply.access_token in world.sandbox.running.state.access_tokens


async def test_a_reading_token_reads_and_cannot_trade(world: World) -> None:
    """A token for `read` works at the API and is refused there, 403, for an order; one for `trade` places it."""
    desk = await world.desk()
    reading = {"Authorization": f"Bearer {(await desk.get('read')).access_token}"}
    trading = {"Authorization": f"Bearer {(await desk.get('trade')).access_token}"}
    http = world.sandbox.http
    assert 200 == (await http.get("/v2/users/me/accounts", headers=reading)).status_code
    assert 403 == (await http.post("/v1/orders", json=ORDER, headers=reading)).status_code
    assert 200 == (await http.post("/v1/orders", json=ORDER, headers=trading)).status_code


async def test_a_second_call_asks_nobody(world: World) -> None:
    """The same wish again, in another order and with duplicates, is served from memory: the same token, no call."""
    desk = await world.desk()
    first = await desk.get("read", "trade")
    calls = (await world.sandbox.counters())["token_calls"]
    second = await desk.get("trade", "read", "read")
    assert (first.access_token, first.fingerprint) == (second.access_token, second.fingerprint)
    assert calls == (await world.sandbox.counters())["token_calls"]
    sources = [event.fields["source"] for event in await world.events(f"key:{desk.caller}")]
    assert ["memory", "provider"] == sources


@pytest.mark.parametrize("kind", ["client_credentials", "refresh_token"])
async def test_a_token_the_api_refused_is_replaced(world: World, kind: str) -> None:
    """Its fingerprint brings another one, which is then everybody's; said of the old one again it changes nothing."""
    desk = await world.desk(kind)
    first = await desk.get("read", "trade")
    await world.sandbox.revoke_access_tokens()
    second = await desk.get("read", "trade", rejected=first.fingerprint)
    assert first.fingerprint != second.fingerprint
    reading = {"Authorization": f"Bearer {second.access_token}"}
    assert 200 == (await world.sandbox.http.get("/v2/users/me/accounts", headers=reading)).status_code
    calls = (await world.sandbox.counters())["token_calls"]
    for rejected in ("", first.fingerprint, "0" * 32):
        assert second.fingerprint == (await desk.get("read", "trade", rejected=rejected)).fingerprint
    assert "RATE_LIMITED" == (await desk.refused("read", "trade", rejected=second.fingerprint)).reason
    assert calls == (await world.sandbox.counters())["token_calls"]


async def test_every_scope_set_has_a_token_of_its_own(world: World) -> None:
    """A wider token in the cache never serves a narrower wish."""
    desk = await world.desk("refresh_token")
    both, reading = await desk.get("read", "trade"), await desk.get("read")
    assert (token_pb2.NARROWING_EXACT, token_pb2.NARROWING_NARROWED) == (both.narrowing, reading.narrowing)
    assert both.access_token != reading.access_token
    assert sorted(READ) == list(reading.provider_scopes)
    assert READ == world.sandbox.running.state.access_tokens[reading.access_token].scopes


async def test_an_import_rotates(world: World) -> None:
    """The imported token is spent at once, the one that came for it is the grant's, and every redeem rotates again."""
    desk = await world.desk("refresh_token", imported=False)
    imported = await world.sandbox.refresh_token(scopes=wire(["read", "trade"]))
    answer = await world.import_token(desk.grant, imported)
    assert answer.rotated
    assert (await world.sandbox.inspect(imported))["used"]
    await desk.get("read")
    await desk.get("trade")
    status = await world.grant_status(desk.grant)
    assert ("idle", "ok", True) == (status.grant.phase, status.grant.health, status.grant.consented)
    assert ["landed", "landed", "landed"] == [attempt.outcome for attempt in status.attempts]
    tokens = world.sandbox.running.state.refresh_tokens
    assert [True, True, True, False] == [token.used_at is not None for token in tokens.values()]
    assert not any(token.family.revoked for token in tokens.values())


async def test_the_only_grant_may_be_left_out(world: World) -> None:
    """A caller that policy leaves one grant needs not name it."""
    desk = await world.desk()
    assert desk.grant == (await desk.get("read", grant="")).grant


async def test_a_wire_scope_may_be_asked_for(world: World) -> None:
    """A provider's own word is allowed by the product scope that contains it."""
    desk = await world.desk()
    reply = await desk.get("account:information")
    assert (["account:information"], ["account:information"]) == (list(reply.scopes), list(reply.provider_scopes))


async def test_a_provider_that_says_nothing_is_unverified(world: World) -> None:
    """Where neither reply nor token states the scopes, the label says that nobody knows."""
    await world.sandbox.behave(reply_scope="absent", scope_claim="absent")
    desk = await world.desk()
    assert token_pb2.NARROWING_UNVERIFIED == (await desk.get("read")).narrowing


async def test_an_excess_that_policy_accepts_is_labelled(world: World) -> None:
    """WIDER, with the excess in the reply and in the audit event."""
    await world.sandbox.behave(scope_reply="wider")
    desk = await world.desk(accept_excess=["trade"])
    reply = await desk.get("read")
    assert (token_pb2.NARROWING_WIDER, ["order:execution"]) == (reply.narrowing, list(reply.excess_scopes))
    (event,) = await world.events(f"key:{desk.caller}")
    assert ("wider", "order:execution") == (event.fields["narrowing"], event.fields["excess"])


async def test_an_assumed_life_says_so(world: World) -> None:
    """Without `expires_in` the provider's default counts, bounded by the token's own `exp`."""
    await world.sandbox.behave(reply_overrides={"expires_in": None})
    desk = await world.desk()
    assert (await desk.get("read")).lifetime_assumed


@pytest.mark.parametrize("kind", ["client_credentials", "refresh_token"])
async def test_a_herd_makes_one_call(world: World, kind: str) -> None:
    """A hundred callers at once for one token: one call to the provider, every caller answered with its token."""
    desk = await world.desk(kind)
    before = (await world.sandbox.counters())["token_calls"]
    replies = await asyncio.gather(*(desk.get("read") for _ in range(100)))
    assert before + 1 == (await world.sandbox.counters())["token_calls"]
    assert 1 == len({reply.access_token for reply in replies})


async def test_the_client_library(world: World) -> None:
    """The Python client gets the token and what is said of it."""
    desk = await world.desk()
    async with AsyncClient(world.process.address, api_key=desk.key) as client:
        token = await client.get_token(["read"], min_lifetime=600)
    assert (Narrowing.NARROWED, desk.grant, ("read",)) == (token.narrowing, token.grant, token.scopes)
    assert token.access_token in world.sandbox.running.state.access_tokens


async def test_metrics_count_it(on_sqlite: World) -> None:
    """Requests by method, code and reason, tokens by source, redeems by provider and outcome."""
    desk = await on_sqlite.desk()
    await desk.get("read")
    await desk.refused("withdraw")
    page = await on_sqlite.metrics()
    for line in (
        'aries_broker_tokens_issued_total{source="provider"}',
        'aries_broker_redeems_total{outcome="landed",provider="aries"}',
        'code="PERMISSION_DENIED",method="/aries.broker.v1.TokenService/GetToken",reason="POLICY_DENIED"',
    ):
        assert line in page
