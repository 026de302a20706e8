"""`login` against a real broker with pages, at which a real person logs in: from the command to the grant's token."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from aries.broker.admin.v1 import config_pb2, secrets_pb2, secrets_pb2_grpc
from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from broker.cli.login_texts import AWAY, CANCELLED, FAILURES, STAGES
from broker.sandbox.config import UserSeed
from tests.exchange.login_steps import watched_steps
from tests.support.broker import start_broker
from tests.support.canary import MFA_CODE, Seen, new_secret, search_files
from tests.support.forked import ForkedProcess, start_forked
from tests.support.person import Person, asked, onward, person
from tests.support.ports import free_port
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.terminal import terminal
from tests.support.world import CLIENT_ID, World, connected, provider, running_world, sandbox_config, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = new_secret("password")
REDIRECT = "http://127.0.0.1:9/terminal"
AT_PROVIDER = STAGES[authorization_pb2.AUTHORIZATION_STATE_CONFIRMED]


def pages() -> dict[str, str]:
    """Return the settings that give a broker pages."""
    port = free_port()
    return {"BROKER_PUBLIC_LISTEN": f"127.0.0.1:{port}", "BROKER_PUBLIC_URL": f"http://127.0.0.1:{port}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxDriver]:
    """Where people log in; Ada has a password and a phone."""
    config = sandbox_config()
    client = dataclasses.replace(config.clients[0], redirect_uris=(REDIRECT,))
    ada = UserSeed(1001, "ada@example.com", password=PASSWORD, mfa=True, mfa_code=MFA_CODE)
    async with running_sandbox(config, clients=(client,), users=(ada,)) as driver:
        yield driver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(sandbox: SandboxDriver, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A broker with pages; no secret is in anything it said, nor in the raw bytes of its files."""
    data, seen = tmp_path_factory.mktemp("login") / "data", Seen()
    async with running_world(sandbox, data, pages(), seen) as running:
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


class Command:
    """A running `login`, whose output goes where no terminal is."""

    def __init__(self, process: ForkedProcess) -> None:
        """Follow it."""
        self.process = process
        self.lines: list[str] = []

    async def said(self, text: str) -> str:
        """Return the next line that holds a text."""
        while line := (await self.process.stdout.readline()).decode():
            self.lines.append(line.strip())
            if text in line:
                return line.strip()
        raise AssertionError(self.lines)

    async def invitation(self) -> tuple[str, str]:
        """Return the link and the short code."""
        url = await self.said("/connect/")
        return url, (await self.said("-")).replace("-", "")

    async def end(self) -> tuple[int, str]:
        """Return its exit code, and the last line it said."""
        self.lines += (await self.process.stdout.read()).decode().splitlines()
        return await self.process.wait(), self.lines[-1]


@asynccontextmanager
async def logging_in(world: World, grant: str, key: str = "") -> AsyncIterator[Command]:
    """Run `login` for a grant for the length of the block, as the admin unless a key is given."""
    process = await start_forked(["broker.cli", "login", grant], credentials(world, key))
    try:
        yield Command(process)
    finally:
        process.kill()
        await process.wait()


def credentials(world: World, key: str = "") -> Mapping[str, str]:
    """Return the environment that names the broker, and who calls."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    return {**inherited, "BROKER_ADDRESS": world.process.address, "BROKER_API_KEY": key or world.admin_key}


async def now(world: World, url: str) -> authorization_pb2.Authorization:
    """Return how the login stands whose page this is."""
    stub = authorization_pb2_grpc.AuthorizationServiceStub(world.channel)
    request = authorization_pb2.GetAuthorizationRequest(flow_id=url.rpartition("/")[2])
    told: authorization_pb2.Authorization = (await world.call(stub.GetAuthorization, request)).authorization
    return told


async def test_a_person_logs_in(world: World, ada: Person) -> None:
    """A code typed wrongly first and then rightly; the command tells whose the grant is, and the grant serves."""
    desk = await world.desk("refresh_token", imported=False)
    async with logging_in(world, desk.grant) as command:
        url, code = await command.invitation()
        wrong = await ada.confirm(url, "BBBBBBBB" if code != "BBBBBBBB" else "CCCCCCCC")
        assert (403, True) == (wrong.status_code, "The code is wrong" in wrong.text)
        sent = await ada.confirm(url, code)
        await command.said(AT_PROVIDER)
        await ada.get(await ada.at_provider(onward(sent)))
        granted = " ".join(sorted(wire(["read", "trade"])))
        assert (0, f"connected: the grant {desk.grant} as 1001, granted {granted}") == await command.end()
    flow_id = url.rpartition("/")[2]
    assert [url] == [line for line in command.lines if flow_id in line]
    assert (await desk.get("read", "trade")).access_token


async def test_a_person_says_no(world: World, ada: Person) -> None:
    """The command says so, and what to do."""
    desk = await world.desk("refresh_token", imported=False)
    async with logging_in(world, desk.grant) as command:
        sent = await ada.confirm(*await command.invitation())
        query = asked(onward(sent))
        await ada.get(f"{query['redirect_uri']}?error=access_denied&state={query['state']}")
        assert (1, f"error: not connected: {FAILURES['DENIED']} [DENIED]") == await command.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_login_is_over_at_the_broker(world: World, ada: Person, number: int) -> None:
    """Its link leads nowhere any more."""
    desk = await world.desk("refresh_token", imported=False)
    async with logging_in(world, desk.grant) as command:
        url, _ = await command.invitation()
        await command.said("waiting for the page")
        command.process.send_signal(number)
        assert (130, CANCELLED) == await command.end()
    told = await now(world, url)
    assert (authorization_pb2.AUTHORIZATION_STATE_FAILED, authorization_pb2.AUTHORIZATION_FAILURE_CANCELLED) == (
        told.state,
        told.failure,
    )
    assert 410 == (await ada.get(url)).status_code


async def test_a_grant_that_is_not_there(world: World) -> None:
    """Operators are told so."""
    async with logging_in(world, "nothing") as command:
        code, _ = await command.end()
    assert (1, "error: there is no such grant [NOT_FOUND]") == (code, command.lines[0])


async def test_a_caller_that_may_not(world: World) -> None:
    """Nor is it told which grants there are."""
    desk = await world.desk("refresh_token", imported=False)
    async with logging_in(world, desk.grant, desk.key) as command:
        code, _ = await command.end()
    told = "error: no policy allows this caller to have a person log in for the grant and its scopes [POLICY_DENIED]"
    assert (1, told) == (code, command.lines[0])


async def test_a_broker_without_pages(sandbox: SandboxDriver, tmp_path: Path) -> None:
    """The setting that is missing is named."""
    async with running_world(sandbox, tmp_path / "data") as world:
        desk = await world.desk("refresh_token", imported=False)
        async with logging_in(world, desk.grant) as command:
            code, _ = await command.end()
    assert (1, True) == (code, "its operators have to set BROKER_PUBLIC_URL" in command.lines[0])


async def test_a_broker_that_is_gone_meanwhile_is_waited_for(sandbox: SandboxDriver, tmp_path: Path) -> None:
    """The login goes on where it was once the broker is back."""
    env = {**pages(), "BROKER_LISTEN": f"127.0.0.1:{free_port()}"}
    first = await start_broker(tmp_path / "data", env=env)
    async with connected(first, sandbox) as world:
        await world.apply(provider("aries", sandbox.url))
        desk = await world.desk("refresh_token", imported=False)
        async with logging_in(world, desk.grant) as command, person(sandbox) as ada:
            url, code = await command.invitation()
            await command.said("waiting for the page")
            await first.kill()
            await command.said(AWAY)
            second = await start_broker(tmp_path / "data", env=env)
            await ada.log_in(url, code)
            ended, last = await command.end()
            await second.stop()
    assert (0, f"connected: the grant {desk.grant} as 1001") == (ended, last.partition(",")[0])


async def test_a_person_logs_in_at_the_terminal(world: World, sandbox: SandboxDriver) -> None:
    """Password and code go past the broker, and nothing that opens anything is shown; the grant serves."""
    await sandbox.reset()
    grant, key = await terminal_grant(world)
    arguments = ("login", grant, "--terminal", "--redirect-uri", REDIRECT)
    answers = {"address: ": "ada@example.com", "Password: ": PASSWORD, "phone: ": MFA_CODE, "for no: ": "yes"}
    with watched_steps(sandbox.running.app) as steps:
        async with terminal(*arguments, env=credentials(world)) as shown:
            for question, typed in answers.items():
                await shown.expect(question)
                shown.press(f"{typed}\n")
            assert 0 == await shown.end(), shown.shown
    assert f"connected: the grant {grant} as 1001" in shown.shown
    world.seen.add("terminal", shown.shown)
    opening = [str(reply[name]) for reply in steps.replies for name in ("next_step_auth_id", "code") if name in reply]
    assert (3, []) == (len(opening), [secret for secret in (*opening, PASSWORD, MFA_CODE) if secret in shown.shown])
    assert (await world.get_token(key, "read", grant=grant)).access_token


async def terminal_grant(world: World) -> tuple[str, str]:
    """Return a grant whose client allows the direct steps, and the key of a caller that may use it."""
    caller, key = await world.new_key()
    client, grant = world.new_name("client"), world.new_name("grant")
    await world.put(
        client=config_pb2.Client(
            name=client, provider="aries", client_id=CLIENT_ID, redirect_uris=[REDIRECT], direct_login=True
        )
    )
    secret = secrets_pb2.AddFirstClientSecretRequest(client=client, secret=world.right_secret)
    await world.call(secrets_pb2_grpc.SecretsServiceStub(world.channel).AddFirstClientSecret, secret)
    await world.put(grant=config_pb2.Grant(name=grant, client=client, type="refresh_token", scopes=["read"]))
    await world.allow(caller, [grant])
    return grant, key
