"""A provider that fails, in every way: one reason each, the grant is kept, nothing of its words gets through."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from aries.broker.admin.v1 import secrets_pb2, secrets_pb2_grpc
from tests.support.canary import MARK, new_secret
from tests.support.waiting import until_told
from tests.support.world import World, wire

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
KINDS = ["client_credentials", "refresh_token"]
IDLE, UNKNOWN = ("idle", "ok"), ("unknown", "ok")


@dataclass(frozen=True)
class Fault:
    """A scripted failure and what it means for each kind of grant.

    Attributes:
        plain: the reason for client_credentials, and the word for the failure in its metadata.
        refresh: the reason for a refresh token.
        state: phase and health of the refresh token's grant afterwards.
    """

    script: dict[str, Any]
    plain: tuple[str, str]
    refresh: str
    state: tuple[str, str]


def unavailable(failure: str, **script: Any) -> Fault:  # noqa: ANN401 - fields of the script
    """Return a fault after which nobody knows whether a refresh token was spent."""
    return Fault(script, ("PROVIDER_UNAVAILABLE", failure), "GRANT_UNCERTAIN", UNKNOWN)


def unspent(reason: str, failure: str = "", **script: Any) -> Fault:  # noqa: ANN401 - fields of the script
    """Return a fault that says the request was refused before the refresh token was looked at."""
    return Fault(script, (reason, failure), reason, IDLE)


FAULTS = {
    "500": unavailable("status", status=500),
    "503 nested": unavailable("status", status=503, body="nested"),
    "html with 502": unavailable("status", status=502, body="html"),
    "html with 200": unavailable("malformed", status=200, body="html"),
    "nothing with 200": unavailable("malformed", status=200, body="empty"),
    "nothing with 400": unavailable("status", status=400, body="empty"),
    "ten megabytes": unavailable("malformed", status=200, body="huge"),
    "closed before it is looked at": unavailable("malformed", body="drop"),
    "closed after it was carried out": unavailable("malformed", body="drop", when="after"),
    "cut in the middle": unavailable("malformed", body="cut", when="after"),
    "truncated": unavailable("malformed", status=200, body="truncated", when="after"),
    "echo with 500": unavailable("status", status=500, body="echo"),
    "echo with 400": unavailable("status", status=400, body="echo"),
    "a word nobody knows": unavailable("status", status=400, error="no_such_code"),
    "429": unspent("PROVIDER_UNAVAILABLE", "status", status=429, headers={"Retry-After": "7"}),
    "invalid_request, flat": unspent("PROVIDER_UNAVAILABLE", "status", status=400, error="invalid_request"),
    "invalid_client, flat": unspent("PROVIDER_REFUSED_CLIENT", status=401, error="invalid_client"),
    "invalid_client, nested": unspent("PROVIDER_REFUSED_CLIENT", status=401, body="nested", error="authentication"),
    "invalid_client, echo": unspent("PROVIDER_REFUSED_CLIENT", status=401, body="echo", error="invalid_client"),
    "401 with nothing": unspent("PROVIDER_REFUSED_CLIENT", status=401, body="empty"),
    "invalid_scope, flat": unspent("SCOPE_NOT_GRANTED", status=400, error="invalid_scope"),
    "invalid_scope, RFC": unspent("SCOPE_NOT_GRANTED", status=400, body="rfc", error="invalid_scope"),
    "invalid_scope, nested": unspent("SCOPE_NOT_GRANTED", status=400, body="nested", error="invalid_scope"),
    "invalid_grant, flat": Fault(
        {"status": 400, "error": "invalid_grant"},
        ("PROVIDER_UNAVAILABLE", "status"),
        "GRANT_QUARANTINED",
        ("idle", "quarantined"),
    ),
    "invalid_grant, RFC": Fault(
        {"status": 400, "body": "rfc", "error": "invalid_grant"},
        ("PROVIDER_UNAVAILABLE", "status"),
        "GRANT_QUARANTINED",
        ("idle", "quarantined"),
    ),
}
STATUS = {
    "PROVIDER_UNAVAILABLE": CODE.UNAVAILABLE,
    "PROVIDER_REFUSED_CLIENT": CODE.UNAVAILABLE,
    "GRANT_UNCERTAIN": CODE.UNAVAILABLE,
    "SCOPE_NOT_GRANTED": CODE.FAILED_PRECONDITION,
    "GRANT_QUARANTINED": CODE.FAILED_PRECONDITION,
}


async def _own_client(world: World, fault: Fault) -> str:
    """Return a client of the test's own where the provider refuses it: its secret is not sent again for a while."""
    return await world.new_client(world.right_secret) if fault.refresh == "PROVIDER_REFUSED_CLIENT" else ""


async def test_a_refused_secret_is_left_alone(world: World) -> None:
    """Another grant of the same client is told so without a call; another client's is served."""
    client = await world.new_client(world.right_secret)
    first, second = await world.desk(client=client), await world.desk(client=client)
    await world.sandbox.fail(status=401, error="invalid_client")
    assert "PROVIDER_REFUSED_CLIENT" == (await first.refused("read")).reason
    calls = (await world.sandbox.counters())["token_calls"]
    told = await second.refused("read")
    assert ("PROVIDER_REFUSED_CLIENT", True) == (told.reason, 0 < (told.retry_after or 0) < 40)
    assert calls == (await world.sandbox.counters())["token_calls"]
    assert (await (await world.desk()).get("read")).access_token
    assert 'aries_broker_client_refused{client="' + client in await world.metrics()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_client_credentials_fail_with_one_reason(on_sqlite: World, fault: Fault) -> None:
    """One call, one reason, one denial; nothing is stored of it, and the grant is as it was."""
    desk = await on_sqlite.desk(client=await _own_client(on_sqlite, fault))
    await on_sqlite.sandbox.fail(**fault.script)
    before = (await on_sqlite.sandbox.counters())["token_calls"]
    told = await desk.refused("read")
    reason, failure = fault.plain
    assert (STATUS[reason], reason, failure) == (told.status, told.reason, told.metadata.get("failure", ""))
    assert before + 1 == (await on_sqlite.sandbox.counters())["token_calls"]
    assert [("token:deny", reason)] == await desk.events()
    assert IDLE == await desk.state()
    assert [] == on_sqlite.seen.leaks()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_refresh_tokens_fail_with_one_reason(on_sqlite: World, fault: Fault) -> None:
    """The grant keeps its token whatever happens; only `invalid_grant` puts it in quarantine."""
    desk = await on_sqlite.desk("refresh_token", client=await _own_client(on_sqlite, fault))
    await on_sqlite.sandbox.fail(**fault.script)
    told = await desk.refused("read")
    assert (STATUS[fault.refresh], fault.refresh) == (told.status, told.reason)
    assert [("token:deny", fault.refresh)] == await desk.events()
    status = (await on_sqlite.grant_status(desk.grant)).grant
    assert (*fault.state, True) == (status.phase, status.health, status.consented)
    assert ["read", "trade"] == list(status.scopes)
    assert [] == on_sqlite.seen.leaks()


async def test_a_token_of_unknown_fate_is_never_sent_again(world: World) -> None:
    """The provider spent it and the answer was lost: GRANT_UNCERTAIN, however often and for whatever it is asked."""
    desk = await world.desk("refresh_token")
    await world.sandbox.fail(body="drop", when="after")
    assert "GRANT_UNCERTAIN" == (await desk.refused("read")).reason
    counted = await world.sandbox.counters()
    again = await asyncio.gather(*(desk.refused(scope) for scope in ["read", "trade", "read"] * 5))
    assert {"GRANT_UNCERTAIN"} == {told.reason for told in again}
    assert counted == await world.sandbox.counters()
    assert ["unknown", "landed"] == [attempt.outcome for attempt in (await world.grant_status(desk.grant)).attempts]
    assert not any(token.family.revoked for token in world.sandbox.running.state.refresh_tokens.values())


async def test_a_refused_grant_is_kept_and_left_alone(world: World) -> None:
    """After `invalid_grant` the grant is visible, quarantined, not asked for again, and recorded as such."""
    desk = await world.desk("refresh_token")
    tokens = world.sandbox.running.state.refresh_tokens
    await world.sandbox.revoke(desk.consented)
    assert "GRANT_QUARANTINED" == (await desk.refused("read")).reason
    counted = await world.sandbox.counters()
    assert "GRANT_QUARANTINED" == (await desk.refused("trade")).reason
    assert counted == await world.sandbox.counters()
    assert ("idle", "quarantined") == await desk.state()

    async def recorded() -> bool:  # by the outbox, a moment later
        quarantined = [event for event in await world.events() if event.action == "grant:quarantine"]
        return desk.grant in [event.fields["grant"] for event in quarantined]

    await until_told(recorded)
    await world.import_token(desk.grant, await world.sandbox.refresh_token(scopes=wire(["read", "trade"])))
    assert (await desk.get("read")).access_token
    assert IDLE == await desk.state()
    assert tokens is world.sandbox.running.state.refresh_tokens


async def test_a_throttled_caller_is_told_when_to_come_back(world: World) -> None:
    """The provider's Retry-After reaches the caller, is heeded, and is not asked about again meanwhile."""
    desk = await world.desk("refresh_token")
    await world.sandbox.fail(status=429, headers={"Retry-After": "7"})
    told = await desk.refused("read")
    assert told.retry_after is not None
    assert 7 <= told.retry_after < 9
    calls = (await world.sandbox.counters())["token_calls"]
    assert "PROVIDER_UNAVAILABLE" == (await desk.refused("read")).reason
    assert "PROVIDER_UNAVAILABLE" == (await desk.refused("trade")).reason
    assert calls == (await world.sandbox.counters())["token_calls"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("provider", "failure"), [("closed", "connect"), ("not-tls", "tls")])
async def test_a_provider_that_cannot_be_reached(world: World, kind: str, provider: str, failure: str) -> None:
    """A refused connection and a failed handshake: nothing was sent, so the refresh token is as good as before."""
    desk = await world.desk(kind, provider=provider, imported=False)
    if kind == "refresh_token":
        imported = await world.sandbox.refresh_token(scopes=wire(["read", "trade"]))
        told = await world.refusal(world.import_token(desk.grant, imported))
        assert ("PROVIDER_UNAVAILABLE", failure) == (told.reason, told.metadata["failure"])
        assert "not_sent" == (await world.grant_status(desk.grant)).attempts[0].outcome
    else:
        told = await desk.refused("read")
        assert ("PROVIDER_UNAVAILABLE", failure) == (told.reason, told.metadata["failure"])
        assert [("token:deny", "PROVIDER_UNAVAILABLE")] == await desk.events()
    assert IDLE == await desk.state()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrong_client_secret(world: World, kind: str) -> None:
    """PROVIDER_REFUSED_CLIENT for operators to act on; no verdict on the grant."""
    client = await world.new_client(new_secret("wrong-secret"))
    desk = await world.desk(kind, client=client, imported=False)
    if kind == "refresh_token":
        imported = await world.sandbox.refresh_token(scopes=wire(["read", "trade"]))
        told = await world.refusal(world.import_token(desk.grant, imported))
        assert not (await world.sandbox.inspect(imported))["used"]
    else:
        told = await desk.refused("read")
    assert (CODE.UNAVAILABLE, "PROVIDER_REFUSED_CLIENT") == (told.status, told.reason)
    assert IDLE == await desk.state()
    assert [] == world.seen.leaks()


async def test_a_wrong_client_secret_is_replaced(world: World) -> None:
    """The right one, put in its place, is sent at once: nobody waits for the old one's time."""
    client = await world.new_client(new_secret("wrong-secret"))
    desk = await world.desk(client=client)
    assert "PROVIDER_REFUSED_CLIENT" == (await desk.refused("read")).reason
    stub = secrets_pb2_grpc.SecretsServiceStub(world.channel)
    right = secrets_pb2.AddFirstClientSecretRequest(client=client, secret=world.right_secret, replace=True)
    assert 2 == (await world.call(stub.AddFirstClientSecret, right)).version

    async def served() -> bool:
        return await world.outcome(desk.get("read")) is None

    await until_told(served)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_short_failure_is_got_over(on_sqlite: World, kind: str) -> None:
    """What was refused for a moment is asked again soon, by itself."""
    desk = await on_sqlite.desk(kind)
    await on_sqlite.sandbox.fail(status=429)
    assert "PROVIDER_UNAVAILABLE" == (await desk.refused("read")).reason

    async def served() -> bool:
        return await on_sqlite.outcome(desk.get("read")) is None

    await until_told(served)
    assert IDLE == await desk.state()


async def test_a_slow_reply_is_waited_for(on_sqlite: World) -> None:
    """Bytes one by one make a whole reply in the end."""
    desk = await on_sqlite.desk("refresh_token")
    await on_sqlite.sandbox.fail(body="drip", when="after", drip_seconds=0.0005)
    assert (await desk.get("read")).access_token


async def test_an_echo_is_not_repeated(world: World) -> None:
    """An error that quotes the request, secret and token included, shows nowhere: not in reply, audit, or metrics."""
    desk = await world.desk("refresh_token")
    await world.sandbox.fail(status=400, body="echo", error="invalid_request")
    told = await desk.refused("read")
    events = "\n".join(str(event) for event in await world.events())
    for text in (str(told), str(told.metadata), events, await world.metrics()):
        assert MARK not in text
        assert "cannot process" not in text
    assert [] == world.seen.leaks()
