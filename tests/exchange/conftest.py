"""The SDK blocks, so the sandbox it talks to answers from another thread; one for each module, reset for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from aries_exchange import AriesClient, Timing
from broker.sandbox import AccountSeed, ClientSeed, SandboxConfig, UserSeed
from broker.sandbox.config import DEFAULT_ACCOUNTS, DEFAULT_USERS
from tests.exchange.login_steps import PASSWORDS
from tests.support.canary import MFA_CODE, REFRESH_TOKEN_PREFIX, Seen, search_files
from tests.support.ports import free_port
from tests.support.sandbox import FakeClock, SandboxDriver, running_sandbox
from tests.support.threaded import LoopThread
from tests.support.world import World, provider, running_world

CLIENT_ID, CLIENT_SECRET = "desk-app", "desk-app-secret"
REDIRECT = "https://yourapp.com/callback"
LONE_USER = 1002

CONFIG = SandboxConfig(
    clients=(
        ClientSeed(CLIENT_ID, CLIENT_SECRET, redirect_uris=(REDIRECT,)),
        ClientSeed("lone-app", "lone-secret", owner=LONE_USER),
        ClientSeed("mobile-app"),
    ),
    users=(
        *(replace(user, password=PASSWORDS[user.email], mfa_code=MFA_CODE) for user in DEFAULT_USERS),
        UserSeed(LONE_USER, "lone@example.com"),
    ),
    refresh_token_prefix=REFRESH_TOKEN_PREFIX,
    accounts=(
        *DEFAULT_ACCOUNTS,
        AccountSeed("TA-2000", 600, LONE_USER, "5AR00600", status="CLOSED"),
        AccountSeed("TA-2001", 601, LONE_USER, "5AR00601"),
    ),
)


@dataclass
class FakeTiming:
    """Time moved by hand and by waiting, which is remembered; chance is what a test says."""

    clock: FakeClock
    waits: list[float] = field(default_factory=list)
    luck: float = 0.0

    def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.waits.append(seconds)
        self.clock.advance(seconds)

    @property
    def timing(self) -> Timing:
        """What a client takes."""
        return Timing(self.clock, self.clock, self.sleep, lambda: self.luck)


@pytest.fixture(scope="session")
def loop() -> Iterator[LoopThread]:
    """The loop that servers run in."""
    thread = LoopThread()
    yield thread
    thread.stop()


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    """The time of a module's sandbox and clients."""
    return FakeClock()


@pytest.fixture(scope="module")
def served(loop: LoopThread, clock: FakeClock) -> Iterator[SandboxDriver]:
    """The module's sandbox."""
    with loop.entered(running_sandbox(CONFIG, now=clock)) as driver:
        yield driver


@pytest.fixture(scope="session")
def real_sandbox(loop: LoopThread) -> Iterator[SandboxDriver]:
    """A sandbox by the real time, which a broker goes by too."""
    with loop.entered(running_sandbox(CONFIG)) as driver:
        yield driver


@pytest.fixture(scope="session")
def world(loop: LoopThread, real_sandbox: SandboxDriver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A broker with pages that holds the app's secret, at two providers: one is proved to narrow, the other is not.

    No canary, a person's password among them, is in anything it said, nor in the raw bytes of its files.
    """
    pages, seen = f"127.0.0.1:{free_port()}", Seen()
    environment = {"BROKER_PUBLIC_LISTEN": pages, "BROKER_PUBLIC_URL": f"http://{pages}"}
    data = tmp_path_factory.mktemp("broker") / "data"
    with loop.entered(running_world(real_sandbox, data, environment, seen)) as running:
        known = (provider("aries", real_sandbox.url), provider("unproved", real_sandbox.url, narrowing="unproved"))
        loop.run(running.apply(*known))
        yield running
    found = search_files(data, CLIENT_ID)
    assert found.expected, "the search finds nothing at all"
    assert [] == [*found.leaks, *seen.leaks()]


@dataclass
class Sandbox:
    """The sandbox as blocking code drives it."""

    driver: SandboxDriver
    loop: LoopThread

    @property
    def url(self) -> str:
        """Its root."""
        return self.driver.url

    def behave(self, **changes: object) -> None:
        """Change how it behaves."""
        self.loop.run(self.driver.behave(**changes))

    def fail(self, count: int = 1, **failure: object) -> None:
        """Script failures."""
        self.loop.run(self.driver.fail(count, **failure))

    def refresh_token(self, **more: Any) -> str:  # noqa: ANN401 - passed on
        """Return a refresh token, as a consent gives it."""
        return self.loop.run(self.driver.refresh_token(**more))

    def code(self, **more: Any) -> str:  # noqa: ANN401 - passed on
        """Return an authorization code, as the login page gives it."""
        return self.loop.run(self.driver.code(REDIRECT, **more))

    def revoke_access_tokens(self) -> None:
        """Make the API forget every access token."""
        self.loop.run(self.driver.revoke_access_tokens())

    def counters(self) -> dict[str, Any]:
        """Return how it was called."""
        return self.loop.run(self.driver.counters())

    def outcomes(self) -> dict[str, int]:
        """Return how token requests went."""
        return dict(self.counters()["token_outcomes"])


@pytest.fixture
def sandbox(served: SandboxDriver, loop: LoopThread) -> Sandbox:
    """The module's sandbox as it was at its start."""
    loop.run(served.reset())
    return Sandbox(served, loop)


@pytest.fixture
def time(clock: FakeClock) -> FakeTiming:
    """The time of a test's clients."""
    return FakeTiming(clock)


Build = Callable[..., AriesClient]


@pytest.fixture
def build(sandbox: Sandbox, time: FakeTiming) -> Iterator[Build]:
    """Build clients of the sandbox, which are closed in the end."""
    built: list[AriesClient] = []

    def build_client(*arguments: str, **more: Any) -> AriesClient:  # noqa: ANN401 - the client's
        built.append(AriesClient(*arguments, **{"base_url": sandbox.url, "timing": time.timing, **more}))
        return built[-1]

    yield build_client
    for client in built:
        client.close()


@pytest.fixture
def client(build: Build) -> AriesClient:
    """A client with the app's own rights."""
    return build(CLIENT_ID, CLIENT_SECRET)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own settings do not reach the tests."""
    for name in ("BROKER", "GRANT", "CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN", "BASE_URL"):
        monkeypatch.delenv(f"ARIES_{name}", raising=False)
    for name in ("ADDRESS", "API_KEY", "TOKEN_FILE", "CA", "CERT", "CERT_KEY"):
        monkeypatch.delenv(f"BROKER_{name}", raising=False)
