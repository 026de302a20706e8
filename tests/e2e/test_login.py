"""A person logs in for a grant, through the broker's pages, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aries.broker.admin.v1 import config_pb2, secrets_pb2, secrets_pb2_grpc
from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from broker.core.authorization import MOST_OPEN
from broker.core.oauth.rfc7636 import challenge_of
from broker.sandbox.config import UserSeed
from tests.support.canary import Seen, search_files
from tests.support.person import Person, asked, onward, person
from tests.support.ports import free_port
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.waiting import until_told
from tests.support.world import CLIENT_ID, World, running_world, sandbox_config, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONNECTED = authorization_pb2.AUTHORIZATION_STATE_CONNECTED
FAILED = authorization_pb2.AUTHORIZATION_STATE_FAILED
OTHER_USER = 1002


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxDriver]:
    """Where people log in."""
    config = sandbox_config()
    users = (*config.users, UserSeed(OTHER_USER, "eve@example.com"))
    async with running_sandbox(config, users=users) as driver:
        yield driver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(sandbox: SandboxDriver, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A broker with pages; no canary is in anything it said, nor in the raw bytes of its files."""
    data, port, seen = tmp_path_factory.mktemp("login") / "data", free_port(), Seen()
    pages = {"BROKER_PUBLIC_LISTEN": f"127.0.0.1:{port}", "BROKER_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    async with running_world(sandbox, data, pages, seen) as running:
        yield running
    found = search_files(data, CLIENT_ID)
    assert found.expected, "the search finds nothing at all"
    assert [] == [*found.leaks, *seen.leaks()]


@pytest_asyncio.fixture(loop_scope="module")
async def ada(world: World, sandbox: SandboxDriver) -> AsyncIterator[Person]:
    """A person with an account at the sandbox, and a browser of her own."""
    await sandbox.reset()
    async with person(sandbox, seen=world.seen) as somebody:
        yield somebody


def logins(world: World) -> authorization_pb2_grpc.AuthorizationServiceAsyncStub:
    """Return the service."""
    return authorization_pb2_grpc.AuthorizationServiceStub(world.channel)


async def started(
    world: World, grant: str, key: str = "", **fields: object
) -> authorization_pb2.StartAuthorizationResponse:
    """Start a login for a grant."""
    request = authorization_pb2.StartAuthorizationRequest(grant=grant, **fields)  # type: ignore[arg-type]  # its fields
    metadata = (("authorization", f"Bearer {key or world.admin_key}"),)
    reply: authorization_pb2.StartAuthorizationResponse = await logins(world).StartAuthorization(
        request, metadata=metadata, timeout=20
    )
    return reply


async def now(world: World, flow_id: str) -> authorization_pb2.Authorization:
    """Return how a login stands."""
    request = authorization_pb2.GetAuthorizationRequest(flow_id=flow_id)
    reply = await world.call(logins(world).GetAuthorization, request)
    told: authorization_pb2.Authorization = reply.authorization
    return told


async def test_a_person_logs_in_and_a_service_gets_a_token(world: World, ada: Person) -> None:
    """From the link to "connected", and then GetToken; the starter is told who it was and what was granted."""
    desk = await world.desk("refresh_token", imported=False)
    login = await started(world, desk.grant)
    assert "Connected" in await connected(world, ada, login)
    told = await now(world, login.flow_id)
    assert (CONNECTED, "1001", sorted(wire(["read", "trade"]))) == (
        told.state,
        told.subject,
        list(told.provider_scopes),
    )
    token = await desk.get("read", "trade")
    assert sorted(wire(["read", "trade"])) == sorted(token.provider_scopes)
    assert 410 == (await ada.get(login.authorization_url)).status_code


async def connected(world: World, ada: Person, login: authorization_pb2.StartAuthorizationResponse) -> str:
    """Go the whole way; return the text of the page at its end."""
    back = await ada.log_in(login.authorization_url, login.short_code)
    return (await ada.get(back.headers["location"])).text


async def failure(world: World, login: authorization_pb2.StartAuthorizationResponse) -> str:
    """Return why a login failed, nothing while it did not."""
    told = await now(world, login.flow_id)
    name = authorization_pb2.AuthorizationFailure.Name(told.failure).removeprefix("AUTHORIZATION_FAILURE_")
    return name if told.state == FAILED else ""


async def test_a_quarantined_grant_is_authorized_again(world: World, ada: Person) -> None:
    """It keeps its name, its policies and its history, and serves again."""
    desk = await world.desk("refresh_token")
    await world.sandbox.revoke(desk.consented)
    assert "GRANT_QUARANTINED" == (await desk.refused("read")).reason
    attempts = len((await world.grant_status(desk.grant)).attempts)
    assert "Connected" in await connected(world, ada, await started(world, desk.grant))
    assert (await desk.get("read", "trade")).access_token
    assert ("idle", "ok") == await desk.state()
    assert len((await world.grant_status(desk.grant)).attempts) > attempts


async def test_somebody_else_does_not_take_a_grant_over(world: World, ada: Person, sandbox: SandboxDriver) -> None:
    """The first person's stays in use; the other's token is ended at the provider; an admin may want it otherwise."""
    desk = await world.desk("refresh_token", imported=False)
    await connected(world, ada, await started(world, desk.grant))
    async with person(sandbox, user_id=OTHER_USER, seen=world.seen) as eve:
        login = await started(world, desk.grant)
        assert "Not connected" in await connected(world, eve, login)
        assert "SUBJECT_MISMATCH" == await failure(world, login)
        assert (await desk.get("read", "trade")).access_token
        families = [token.family for token in sandbox.running.state.refresh_tokens.values()]
        assert [(1001, False), (OTHER_USER, True)] == sorted({(one.user_id, one.revoked) for one in families})
        login = await started(world, desk.grant, any_subject=True)
        await connected(world, eve, login)
    assert str(OTHER_USER) == (await now(world, login.flow_id)).subject


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ({"status": 503}, "PROVIDER_UNAVAILABLE"),
        ({"body": "drop", "when": "after"}, "PROVIDER_UNAVAILABLE"),
        ({"status": 400, "error": "invalid_grant"}, "CODE_REFUSED"),
        ({"status": 401, "error": "invalid_client"}, "CLIENT_REFUSED"),
    ],
)
async def test_a_code_is_sent_once(world: World, ada: Person, script: dict[str, Any], why: str) -> None:
    """Whatever the provider answers: the page says what to do, and the grant has what it had."""
    client = await world.new_client(world.right_secret)
    desk = await world.desk("refresh_token", imported=False, client=client)
    login = await started(world, desk.grant)
    await world.sandbox.fail(**script)
    page = await connected(world, ada, login)
    assert ("Not connected" in page, why) == (True, await failure(world, login))
    assert 1 == (await world.sandbox.counters())["token_calls"]
    assert "CONSENT_REQUIRED" == (await desk.refused("read", "trade")).reason


async def test_a_scope_that_was_taken_away_at_the_provider_is_missed(world: World, ada: Person) -> None:
    """What came back is what counts, whatever stood in the address."""
    desk = await world.desk("refresh_token", imported=False)
    login = await started(world, desk.grant)
    await ada.log_in(login.authorization_url, login.short_code, scopes=" ".join(wire(["read"])))
    assert "SCOPE_NOT_GRANTED" == await failure(world, login)
    assert all(token.family.revoked for token in world.sandbox.running.state.refresh_tokens.values())


async def test_a_callback_is_taken_once_and_from_its_browser_alone(world: World, ada: Person) -> None:
    """A foreign state, another browser, and the same answer again."""
    desk = await world.desk("refresh_token", imported=False)
    login = await started(world, desk.grant)
    sent = await ada.confirm(login.authorization_url, login.short_code)
    back = await ada.at_provider(onward(sent))
    async with person(world.sandbox, seen=world.seen) as eve:
        assert 403 == (await eve.get(back)).status_code
        await eve.get(login.authorization_url)
    assert 400 == (await ada.get(await ada.at_provider(onward(sent), state="foreign"))).status_code
    assert 303 == (await ada.get(back)).status_code
    assert 400 == (await ada.get(back)).status_code
    assert "" == await failure(world, login)


async def test_a_denied_consent(world: World, ada: Person) -> None:
    """Its own page; the starter is told the same."""
    desk = await world.desk("refresh_token", imported=False)
    login = await started(world, desk.grant)
    sent = await ada.confirm(login.authorization_url, login.short_code)
    query = asked(onward(sent))
    back = await ada.get(f"{query['redirect_uri']}?error=access_denied&state={query['state']}")
    assert "did not allow it" in (await ada.get(back.headers["location"])).text
    assert "DENIED" == await failure(world, login)


async def test_an_app_has_its_own_people_log_in(world: World, ada: Person) -> None:
    """A caller whose policy says so, with its own state and challenge; the code is its alone, once."""
    app, key = await world.new_key()
    client, grant = world.new_name("client"), world.new_name("grant")
    redirect_uri = "http://127.0.0.1:9/app"
    await world.put(
        client=config_pb2.Client(name=client, provider="aries", client_id=CLIENT_ID, redirect_uris=[redirect_uri])
    )
    secret = secrets_pb2.AddFirstClientSecretRequest(client=client, secret=world.right_secret)
    await world.call(secrets_pb2_grpc.SecretsServiceStub(world.channel).AddFirstClientSecret, secret)
    await world.put(grant=config_pb2.Grant(name=grant, client=client, type="refresh_token", scopes=["read"]))
    await world.put(
        policy=config_pb2.Policy(
            name=f"{grant}-logins", callers=[f"key:{app}"], grants=[grant], scopes=["read"], authorize=True
        )
    )
    redirect = authorization_pb2.AppRedirect(
        redirect_uri=redirect_uri, state="its-own", code_challenge=challenge_of("v" * 43)
    )
    login = await started(world, grant, key, app=redirect)
    assert "" == login.short_code
    back = await ada.log_in(login.authorization_url)
    answer = asked(back.headers["location"])
    assert (redirect_uri, "its-own") == (back.headers["location"].partition("?")[0], answer["state"])
    bring = authorization_pb2.CompleteAuthorizationRequest(
        app=authorization_pb2.AppCode(code=answer["code"], redirect_uri=redirect_uri, code_verifier="v" * 43)
    )
    refused = await world.refusal(world.call(logins(world).CompleteAuthorization, bring))
    assert "INVALID_REQUEST" == refused.reason
    done = await world.call(logins(world).CompleteAuthorization, bring, key)
    assert CONNECTED == done.authorization.state
    assert (await world.get_token(key, "read", grant=grant)).access_token
    again = await world.refusal(world.call(logins(world).CompleteAuthorization, bring, key))
    assert "INVALID_REQUEST" == again.reason


async def test_who_may_not_start_a_login(world: World) -> None:
    """A caller that may use the grant, and one that asks for a grant that is not there: told alike."""
    desk = await world.desk("refresh_token", imported=False)
    for grant in (desk.grant, "nothing"):
        request = authorization_pb2.StartAuthorizationRequest(grant=grant)
        refused = await world.refusal(world.call(logins(world).StartAuthorization, request, desk.key))
        assert ("POLICY_DENIED", "no policy allows this caller") == (refused.reason, str(refused)[:28])


async def test_a_thousand_logins_of_one_caller_are_not_open_at_once(world: World) -> None:
    """The newest is refused; cancelling one makes room."""
    app, key = await world.new_key()
    desk = await world.desk("refresh_token", imported=False)
    await world.put(
        policy=config_pb2.Policy(
            name=f"{app}-logins", callers=[f"key:{app}"], grants=[desk.grant], scopes=["read", "trade"], authorize=True
        )
    )
    request = authorization_pb2.StartAuthorizationRequest(grant=desk.grant)
    service = logins(world)
    open_ones = [await world.call(service.StartAuthorization, request, key) for _ in range(MOST_OPEN)]
    refused = await world.refusal(world.call(service.StartAuthorization, request, key))
    assert ("RATE_LIMITED", "open-logins") == (refused.reason, refused.metadata["limit"])
    cancel = authorization_pb2.CancelAuthorizationRequest(flow_id=open_ones[0].flow_id)
    await world.call(service.CancelAuthorization, cancel, key)
    await world.call(service.StartAuthorization, request, key)


async def test_what_happened_is_in_the_audit_log(world: World, ada: Person) -> None:
    """Who started it, that it was confirmed and received, and that the grant is authorized; with the token's name."""
    desk = await world.desk("refresh_token", imported=False)
    await connected(world, ada, await started(world, desk.grant))

    async def told() -> bool:
        found = {event.action for event in await world.events() if event.fields.get("grant") == desk.grant}
        return {"login:start", "login:confirm", "login:receive", "grant:authorize"} <= found

    await until_told(told)
