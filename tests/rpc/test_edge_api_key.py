"""The edge with API keys: who gets in, what the refused are told, what is recorded."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest

from broker.core.identity import CallerId
from tests.rpc.kit import ACCESS_TOKEN, WISH, Kit, bearer, refusal, token_stub

METHOD = "/aries.broker.v1.TokenService/GetToken"


async def test_a_key_gets_a_token() -> None:
    """A good API key proves `key:<name>`, and the reply carries what the flow issued."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        reply = await stub.GetToken(WISH, metadata=bearer(key))
    assert ACCESS_TOKEN == reply.access_token
    assert CallerId("key", "orders") == kit.get_token.requests[0].caller
    assert 1 == kit.telemetry.requests[METHOD, "OK", ""]


async def test_no_key_is_refused_and_recorded() -> None:
    """Without a credential: UNAUTHENTICATED with the reason, and an audit event without an actor."""
    kit = Kit()
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH))
    assert (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED") == (told.code, told.reason)
    [event] = kit.sink.events
    assert ("token:deny", "", "CALLER_UNAUTHENTICATED", "no_credential") == (
        event.action,
        event.actor,
        event.reason,
        event.detail,
    )


@pytest.mark.parametrize("header", ["x-forwarded-client-cert", "x-spiffe-id", "x-forwarded-for", "x-api-key"])
async def test_no_header_of_a_proxy_proves_a_caller(header: str) -> None:
    """Whatever it names: a credential is a bearer, or the certificate of the connection itself."""
    kit = Kit()
    key = kit.add_key("orders")
    said = f"URI=spiffe://corp.example/ns/orders;By=spiffe://corp.example/ns/broker;Hash={key}"
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=((header, said), (header, key))))
    assert ("CALLER_UNAUTHENTICATED", "no_credential") == (told.reason, kit.sink.events[0].detail)


async def test_a_key_under_a_mac_key_of_another_replica_gets_a_token() -> None:
    """An API key whose MAC key this process has not met yet is proved once that is loaded; a wrong one is not."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        kit.macs.loaded = False
        told = await refusal(stub.GetToken(WISH, metadata=bearer(f"{key[:-1]}{'A' if key[-1] != 'A' else 'B'}")))
        kit.macs.loaded = False
        reply = await stub.GetToken(WISH, metadata=bearer(key))
    assert ("CALLER_UNAUTHENTICATED", ACCESS_TOKEN) == (told.reason, reply.access_token)


async def test_a_disabled_key_falls_at_once() -> None:
    """A cached authentication does not outlive the version it was proved under."""
    kit = Kit()
    key = kit.add_key("orders")
    async with kit.serve() as (port,), token_stub(port) as stub:
        await stub.GetToken(WISH, metadata=bearer(key))
        await stub.GetToken(WISH, metadata=bearer(key))
        assert 1 == kit.keys.lookups
        kit.keys.rows = {row.id: replace(row, disabled=True) for row in kit.keys.rows.values()}
        kit.catalog = replace(kit.catalog, version=2)
        told = await refusal(stub.GetToken(WISH, metadata=bearer(key)))
    assert "CALLER_UNAUTHENTICATED" == told.reason
