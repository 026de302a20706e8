"""More than one broker: on one PostgreSQL they are one, on one SQLite folder there is only one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from aries.broker.admin.v1 import config_pb2
from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from tests.support.broker import NotServingError, start_broker
from tests.support.canary import Seen
from tests.support.person import onward, person
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.sandbox import SandboxDriver
from tests.support.waiting import until_told
from tests.support.world import Desk, World, connected, postgres_environment

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def other_world(postgres_world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A second broker on the shared PostgreSQL, with a data folder of its own."""
    process = await start_broker(tmp_path_factory.mktemp("other") / "data", env=postgres_world.process.environment)
    admin_key = postgres_world.admin_key
    async with connected(process, postgres_world.sandbox, seen=Seen(), admin_key=admin_key) as other:
        yield other
    assert 0 == await process.stop()
    other.seen.add("log", bytes(process.output))
    assert [] == other.seen.leaks()


async def _at(other: World, desk: Desk) -> Desk:
    """Return a service's desk at another broker, once that has heard of the policy: permissions come by a poll."""
    there = Desk(other, desk.caller, desk.key, desk.grant)

    async def granted() -> bool:
        return await other.outcome(there.get("trade")) is None

    await until_told(granted)
    return there


@pytest.mark.parametrize("kind", ["client_credentials", "refresh_token"])
async def test_they_answer_the_same(
    postgres_world: World, other_world: World, fresh_upstream: SandboxDriver, kind: str
) -> None:
    """A token that one broker got is the other's too: one call to the provider for both."""
    here = await postgres_world.desk(kind)
    there = await _at(other_world, here)
    before = (await fresh_upstream.counters())["token_calls"]
    first, second = await here.get("read"), await there.get("read")
    assert (first.access_token, first.fingerprint) == (second.access_token, second.fingerprint)
    assert (list(first.provider_scopes), first.narrowing) == (list(second.provider_scopes), second.narrowing)
    assert before + 1 == (await fresh_upstream.counters())["token_calls"]
    assert str(await here.refused("withdraw")) == str(await there.refused("withdraw"))


@pytest.mark.parametrize("kind", ["client_credentials", "refresh_token"])
async def test_a_herd_at_both_makes_one_call(
    postgres_world: World, other_world: World, fresh_upstream: SandboxDriver, kind: str
) -> None:
    """Whoever takes the lease calls the provider; everybody else, at either broker, gets what it brought."""
    here = await postgres_world.desk(kind)
    there = await _at(other_world, here)
    before = (await fresh_upstream.counters())["token_calls"]
    replies = await asyncio.gather(*(desk.get("read") for desk in (here, there) for _ in range(20)))
    assert before + 1 == (await fresh_upstream.counters())["token_calls"]
    assert 1 == len({reply.access_token for reply in replies})


async def test_a_policy_removed_at_one_holds_at_the_other(
    postgres_world: World, other_world: World, fresh_upstream: SandboxDriver
) -> None:
    """From the reply on: the very next call at the other broker is denied, cached token or not."""
    for _ in range(5):
        here = await postgres_world.desk()
        there = await _at(other_world, here)
        policy = config_pb2.RemoveObjectRequest(kind="policy", name=f"policy-of-{here.caller}")
        await postgres_world.call(postgres_world.config.RemoveObject, policy)
        assert "POLICY_DENIED" == (await there.refused("trade")).reason


@asynccontextmanager
async def _limited(world: World, *others: World) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Limit every caller to a burst, set anew by what is lent, and a call an hour; these brokers know of it."""

    async def limit(burst: int) -> None:
        window = config_pb2.Window(rate="1/h", burst=burst)
        await world.put(limit=config_pb2.Limit(name="few", applies_to="get_token", key=["caller"], windows=[window]))

    await limit(4)
    try:
        for other in others:
            await other.call(other.config.ListObjects, other.list_of("limit"))  # which reads what is stored now
        yield limit
    finally:
        await world.call(world.config.RemoveObject, config_pb2.RemoveObjectRequest(kind="limit", name="few"))


async def test_a_limit_holds_over_both_together(
    postgres_world: World, other_world: World, fresh_upstream: SandboxDriver
) -> None:
    """However a caller divides its calls, both let one burst through; more of it as soon as one has a wider rule."""
    here = await postgres_world.desk()
    there = await _at(other_world, here)
    desks = (here, there)
    async with _limited(postgres_world, other_world) as limit:
        told = await asyncio.gather(*(postgres_world.outcome(desk.get("read")) for desk in desks * 6))
        assert ([None] * 4, {"RATE_LIMITED"}) == (
            [error for error in told if error is None],
            {error.reason for error in told if error is not None},
        )
        await limit(6)
        told = [await postgres_world.outcome(desk.get("read")) for desk in desks * 2]
        assert [None, None, "RATE_LIMITED", "RATE_LIMITED"] == [error and error.reason for error in told]


async def test_a_key_disabled_at_one_is_dead_at_the_other(
    postgres_world: World, other_world: World, fresh_upstream: SandboxDriver
) -> None:
    """The very next call at the other broker is no longer proved."""
    here = await postgres_world.desk()
    there = await _at(other_world, here)
    await postgres_world.disable_key(here.caller)
    assert "CALLER_UNAUTHENTICATED" == (await there.refused("trade")).reason


async def test_a_role_removed_at_one_is_gone_at_the_other(postgres_world: World, other_world: World) -> None:
    """An operator's call follows what is stored: no poll lies between the end of a role and the first refusal."""
    for _ in range(5):
        name, key = await postgres_world.new_key()
        role = config_pb2.RoleBinding(name=name, role="auditor", callers=[f"key:{name}"])
        await postgres_world.put(role=role)
        await other_world.call(other_world.config.ListObjects, World.list_of("role"), key)
        removal = config_pb2.RemoveObjectRequest(kind="role", name=name)
        await postgres_world.call(postgres_world.config.RemoveObject, removal)
        refused = other_world.call(other_world.config.ListObjects, World.list_of("role"), key)
        assert "ROLE_REQUIRED" == (await other_world.refusal(refused)).reason


async def test_a_grant_frozen_by_hand_holds_at_both(
    postgres_world: World, other_world: World, fresh_upstream: SandboxDriver, postgres: PostgresServer
) -> None:
    """A hold committed with its version, as every admin transaction does, counts for the next call everywhere."""
    here = await postgres_world.desk()
    there = await _at(other_world, here)
    await here.get("trade")
    database = postgres_world.process.environment["BROKER_DATABASE_URL"].split("/")[3].split("?")[0]
    postgres.execute(
        f"WITH held AS (UPDATE grants SET hold = 'frozen' WHERE name = '{here.grant}' RETURNING id), "  # noqa: S608 - words of ours
        "moved AS (UPDATE control SET version = version + 1 RETURNING version) "
        "INSERT INTO changes (version, kind, id) SELECT version, 'grant', held.id FROM moved, held",
        database,
    )
    assert "GRANT_HELD" == (await here.refused("trade")).reason
    assert "GRANT_HELD" == (await there.refused("trade")).reason


async def test_a_second_broker_on_a_data_folder(sqlite_world: World) -> None:
    """It is refused, told what to do, and leaves the first one alone."""
    with pytest.raises(NotServingError) as refused:
        await start_broker(sqlite_world.process.data_dir)
    said = refused.value.said
    assert "another broker process is using the data folder" in said
    assert "BROKER_DATABASE_URL" in said
    assert (1, False) == (refused.value.exit_code, "Traceback" in said)
    assert await sqlite_world.events(limit=1)


async def test_a_postgresql_that_is_out_of_date(postgres: PostgresServer, tmp_path: Path) -> None:
    """An empty database is refused, naming the command that helps."""
    env = await postgres_environment(postgres, tmp_path / "data", migrated=False)
    with pytest.raises(NotServingError) as refused:
        await start_broker(tmp_path / "data", env=env)
    assert "run `aries-broker migrate` first" in refused.value.said
    assert (1, False) == (refused.value.exit_code, "Traceback" in refused.value.said)


async def test_a_freeze_at_one_is_told_at_the_other(
    postgres_world: World, other_world: World, fresh_upstream: SandboxDriver
) -> None:
    """Who watches the other broker hears which token ended, and gets none until the grant is let go."""
    here = await postgres_world.desk("refresh_token")
    there = await _at(other_world, here)
    handed_out = await there.get("trade")
    async with there.watching() as watch:
        assert (await watch()).drop_all
        held = await here.freeze()
        live = {token.fingerprint for token in held.live_tokens}  # the one the import brought among them
        assert handed_out.fingerprint in live
        assert live == set((await watch()).fingerprints)
    assert "GRANT_HELD" == (await there.refused("trade")).reason
    await here.unfreeze()

    async def let_go() -> bool:
        return await other_world.outcome(there.get("trade")) is None

    await until_told(let_go)
    assert handed_out.fingerprint == (await there.get("trade")).fingerprint


async def test_a_revoked_grant_is_ended_at_the_provider(
    postgres_world: World, other_world: World, fresh_upstream: SandboxDriver
) -> None:
    """At once for every caller; soon after, its refresh token does not live at the provider any more."""
    here = await postgres_world.desk("refresh_token")
    there = await _at(other_world, here)
    await here.revoke()
    assert "GRANT_HELD" == (await there.refused("trade")).reason

    async def ended() -> bool:
        return (await postgres_world.grant_status(here.grant)).grant.hold == "revoked"

    await until_told(ended)
    assert [] == [token for token in await fresh_upstream.refresh_tokens() if token["live"]]


async def test_a_login_goes_over_three_brokers(
    postgres_world: World, fresh_upstream: SandboxDriver, tmp_path: Path
) -> None:
    """Started and confirmed at one, which then ends; its callback lands on the second; the third gives a token."""
    ports = [free_port() for _ in range(2)]
    public_url = f"http://127.0.0.1:{ports[0]}"
    brokers = [
        await start_broker(
            tmp_path / str(port),
            env={
                **postgres_world.process.environment,
                "BROKER_PUBLIC_LISTEN": f"127.0.0.1:{port}",
                "BROKER_PUBLIC_URL": public_url,
            },
        )
        for port in ports
    ]
    desk = await postgres_world.desk("refresh_token", imported=False)
    async with (
        connected(brokers[0], fresh_upstream, seen=Seen(), admin_key=postgres_world.admin_key) as first,
        person(fresh_upstream, seen=postgres_world.seen) as ada,
    ):
        service = authorization_pb2_grpc.AuthorizationServiceStub(first.channel)
        request = authorization_pb2.StartAuthorizationRequest(grant=desk.grant)
        login = await first.call(service.StartAuthorization, request)
        sent = await ada.confirm(login.authorization_url, login.short_code)
        back = await ada.at_provider(onward(sent))
        await brokers[0].kill()
        result = await ada.get(back.replace(public_url, f"http://127.0.0.1:{ports[1]}", 1))
        page = await ada.get(result.headers["location"].replace(public_url, f"http://127.0.0.1:{ports[1]}", 1))
    assert "Connected" in page.text
    assert (await desk.get("read", "trade")).access_token
    assert 0 == await brokers[1].stop()
    for broker in brokers:
        postgres_world.seen.add("log", bytes(broker.output))
    assert [] == postgres_world.seen.leaks()
