"""Access tokens through a real broker: whatever its grants and policies, the same calls work, or say why not."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from aries.broker.admin.v1 import config_pb2, secrets_pb2, secrets_pb2_grpc
from aries_exchange import AriesAPIError, AriesClient
from tests.exchange.conftest import CLIENT_SECRET, REDIRECT, FakeTiming, Sandbox
from tests.exchange.login_steps import ADA, GRACE, PASSWORDS
from tests.support.canary import MARK, MFA_CODE
from tests.support.person import asked, person
from tests.support.sandbox import SandboxDriver
from tests.support.world import CLIENT_ID, Desk, World


@pytest.fixture(scope="module")
def served(real_sandbox: SandboxDriver) -> SandboxDriver:
    """The sandbox that the broker knows."""
    return real_sandbox


Make = Callable[..., tuple[AriesClient, Desk]]


@pytest.fixture
def make(world: World, sandbox: Sandbox, time: FakeTiming, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make a grant of some kind, and a client that may use it."""
    built: list[AriesClient] = []

    def make_client(
        kind: str = "refresh_token",
        scopes: Sequence[str] = ("read", "trade"),
        *,
        provider: str = "aries",
        allowed: Sequence[str] | None = None,
        base_url: str | None = None,
    ) -> tuple[AriesClient, Desk]:
        desk = sandbox.loop.run(world.desk(kind, scopes, provider=provider, allowed=allowed))
        monkeypatch.setenv("BROKER_API_KEY", desk.key)
        built.append(AriesClient(broker=world.process.address, grant=desk.grant, base_url=base_url, timing=time.timing))
        return built[-1], desk

    yield make_client
    for client in built:
        client.close()


@pytest.fixture
def app(world: World, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[AriesClient]:
    """An app that may have people log in for its grant, in a browser and without one."""
    name, key = sandbox.loop.run(world.new_key())
    grant = sandbox.loop.run(_grant_for_logins(world, name))
    monkeypatch.setenv("BROKER_API_KEY", key)
    with AriesClient(broker=world.process.address, grant=grant) as client:
        yield client


async def _grant_for_logins(world: World, caller: str) -> str:
    """Make a grant, and what it takes that a caller may have people log in for it; return its name."""
    client, grant = world.new_name("client"), world.new_name("grant")
    registered = config_pb2.Client(
        name=client, provider="aries", client_id=CLIENT_ID, redirect_uris=[REDIRECT], direct_login=True
    )
    await world.put(client=registered)
    secret = secrets_pb2.AddFirstClientSecretRequest(client=client, secret=world.right_secret)
    await world.call(secrets_pb2_grpc.SecretsServiceStub(world.channel).AddFirstClientSecret, secret)
    await world.put(grant=config_pb2.Grant(name=grant, client=client, type="refresh_token", scopes=["read", "trade"]))
    policy: dict[str, Any] = {"callers": [f"key:{caller}"], "grants": [grant], "scopes": ["read", "trade"]}
    await world.put(policy=config_pb2.Policy(name=f"{grant}-use", **policy))
    await world.put(policy=config_pb2.Policy(name=f"{grant}-logins", authorize=True, **policy))
    return grant


def preview(client: AriesClient) -> object:
    """Preview an order."""
    return client.orders.preview_order("AAPL", 1, "buy", "market", "day", account_id="TA-1001")


def refusal(call: Callable[[], object]) -> AriesAPIError:
    """Return the error a call ends in."""
    with pytest.raises(AriesAPIError) as caught:
        call()
    return caught.value


def test_reads_have_tokens_that_read_and_orders_tokens_that_trade(sandbox: Sandbox, make: Make) -> None:
    """No token carries more than its call needs."""
    client, _ = make()
    client.users.get_current_user()
    reading = sandbox.counters()["last_api_scopes"]
    preview(client)

    assert ["account:information", "order:information", "position:information", "user:information"] == reading
    assert ["order:execution"] == sandbox.counters()["last_api_scopes"]


def test_a_token_is_kept_until_the_broker_says_to_renew_it(sandbox: Sandbox, make: Make, time: FakeTiming) -> None:
    """Many calls ask the broker once; after `renew_after` it is asked again."""
    client, desk = make()
    for _ in range(3):
        client.users.get_current_user()
    early = sandbox.loop.run(desk.events())
    time.clock.advance(3600)
    client.users.get_current_user()

    issued = [action for action, _ in sandbox.loop.run(desk.events())]
    assert (1, 2) == (len(early), len(issued))


def test_a_grant_that_cannot_be_narrowed_is_used_as_a_whole(sandbox: Sandbox, make: Make) -> None:
    """Where it is not proved what a provider does with fewer scopes, the broker gives all of them or none."""
    client, desk = make(provider="unproved")
    client.users.get_current_user()
    preview(client)
    client.users.get_current_user()

    assert ["SCOPE_NOT_GRANTED", "", ""] == [reason for _, reason in sandbox.loop.run(desk.events())]


@pytest.mark.parametrize(
    ("allowed", "reason"),
    [(["read"], "POLICY_DENIED"), (["read", "trade"], "SCOPE_NOT_GRANTED")],
    ids=["by policy", "by consent"],
)
def test_who_may_read_only_reads(sandbox: Sandbox, make: Make, allowed: list[str], reason: str) -> None:
    """An order is then a 403 of the broker, which is not asked for more than once."""
    client, desk = make(scopes=["read"], allowed=allowed)
    error = refusal(lambda: preview(client))

    assert (403, True) == (error.status_code, error.message.startswith("broker: "))
    assert ADA == client.users.get_current_user().email
    assert [reason, ""] == [told for _, told in sandbox.loop.run(desk.events())]


def test_a_handle_gives_what_policy_allows(make: Make) -> None:
    """Both scopes, or the one there is."""
    client, desk = make(allowed=["read"])
    tokens = client.oauth2.refresh_token(f"broker-grant:{desk.grant}")

    assert ("account:information", "order:information", "position:information", "user:information") == tokens.scope
    assert tokens.expires_in in range(3000, 3601)


def test_a_handle_of_a_grant_that_is_not_allowed_is_a_403(make: Make) -> None:
    """It opens nothing by itself."""
    client, _ = make()

    assert 403 == refusal(lambda: client.oauth2.refresh_token("broker-grant:somebody-elses")).status_code


@pytest.mark.parametrize("token", ["art_a-real-refresh-token", "", "broker-grant:"])
def test_a_refresh_token_is_not_sent_to_the_broker(make: Make, token: str) -> None:
    """It is told to be out of place, and is not in the message."""
    client, _ = make()
    with pytest.raises(ValueError, match="with a broker refresh_token is a handle") as caught:
        client.oauth2.refresh_token(token)

    assert "real-refresh-token" not in str(caught.value)


def test_a_grant_without_consent_is_a_401(sandbox: Sandbox, world: World, make: Make) -> None:
    """Somebody has to log in: refreshing does not help, as with a refresh token that ended."""
    client, desk = make()
    sandbox.loop.run(sandbox.driver.revoke(desk.consented))
    error = refusal(client.users.get_current_user)

    assert (401, True) == (error.status_code, "broker: " in error.message)


def test_a_caller_that_the_broker_does_not_know_is_a_401(world: World) -> None:
    """It has no credential."""
    with AriesClient(broker=world.process.address, grant="any") as client:
        assert 401 == refusal(client.users.get_current_user).status_code


def test_a_broker_that_is_away_is_a_503(time: FakeTiming) -> None:
    """Nothing listens there."""
    with AriesClient(broker="127.0.0.1:1", grant="any", timing=time.timing) as client:
        assert 503 == refusal(client.users.get_current_user).status_code


def test_a_token_goes_only_where_the_broker_says(sandbox: Sandbox, make: Make) -> None:
    """A base URL at another origin gets none."""
    client, _ = make(base_url="http://127.0.0.1:1")
    error = refusal(client.users.get_current_user)

    assert (403, True) == (error.status_code, "another API" in error.message)
    assert {} == sandbox.counters()["api_calls"]


def test_no_secret_is_in_the_process(make: Make) -> None:
    """Nothing that the client holds, however deep, is the app's secret or the person's refresh token."""
    client, desk = make()
    client.users.get_current_user()
    tokens = client.oauth2.refresh_token(f"broker-grant:{desk.grant}")
    held = "".join(_texts(client, set())) + repr(tokens) + (tokens.refresh_token or "")

    assert [] == [secret for secret in (CLIENT_SECRET, desk.consented, MARK) if secret in held]


def _texts(thing: object, seen: set[int]) -> Iterator[str]:
    """Yield every text that can be reached from an object by attributes, keys and items of this package."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, str):
        yield thing
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from _texts(key, seen)
            yield from _texts(value, seen)
    elif isinstance(thing, list | tuple | set | frozenset):
        for value in thing:
            yield from _texts(value, seen)
    elif type(thing).__module__.startswith("aries"):
        names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
        for name in names:
            yield from _texts(getattr(thing, name, None), seen)


@pytest.mark.parametrize("verifier", ["v" * 43, None], ids=["with PKCE", "without"])
def test_a_person_logs_in_in_a_browser(sandbox: Sandbox, app: AriesClient, verifier: str | None) -> None:
    """The documented flow: the app's own state comes back, and a code for tokens that act for the person."""
    challenge = None
    if verifier:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    url = app.oauth2.get_authorization_url(REDIRECT, ["read", "trade"], "random_state_string", challenge)
    back = sandbox.loop.run(_browse(sandbox, url))
    answer = asked(back)
    tokens = app.oauth2.exchange_code(answer["code"], REDIRECT, verifier)

    assert (REDIRECT, "random_state_string") == (back.partition("?")[0], answer["state"])
    assert True is (tokens.refresh_token or "").startswith("broker-grant:grant-")
    assert tokens.expires_in in range(3000, 3601)
    assert ADA == app.users.get_current_user().email
    app.bearer_token = tokens.access_token
    preview(app)
    assert 400 == refusal(lambda: app.oauth2.exchange_code(answer["code"], REDIRECT, verifier)).status_code


async def _browse(sandbox: Sandbox, url: str) -> str:
    """Let a person go the whole way; return where the browser ends up."""
    async with person(sandbox.driver) as ada:
        back = await ada.log_in(url)
    return str(back.headers["location"])


def test_a_code_without_its_verifier_is_refused(sandbox: Sandbox, app: AriesClient) -> None:
    """The broker holds the app's challenge."""
    url = app.oauth2.get_authorization_url(REDIRECT, code_challenge="c" * 43)
    code = asked(sandbox.loop.run(_browse(sandbox, url)))["code"]

    assert 400 == refusal(lambda: app.oauth2.exchange_code(code, REDIRECT, "v" * 43)).status_code


def test_a_redirect_that_is_not_registered_is_refused(app: AriesClient) -> None:
    """To the letter; as are scopes that are not all of the grant's, and a login that nothing binds to the app."""
    calls = [
        lambda: app.oauth2.get_authorization_url(f"{REDIRECT}/", state="s"),
        lambda: app.oauth2.get_authorization_url(REDIRECT, ["read"], "s"),
        lambda: app.oauth2.get_authorization_url(REDIRECT),
    ]

    assert [400, 400, 400] == [refusal(call).status_code for call in calls]


@pytest.mark.parametrize("email", [ADA, GRACE], ids=["with a code", "without"])
def test_a_person_logs_in_without_a_browser(app: AriesClient, email: str) -> None:
    """Password and code go to Aries, its code to the broker, and the tokens act for the person."""
    response = app.oauth2.authorize(email, PASSWORDS[email], REDIRECT, ["read", "trade"], consent=lambda _: True)
    code = response.authorization_code
    if response.mfa_required:
        code = app.oauth2.verify_mfa(MFA_CODE, response.session_token).authorization_code
    tokens = app.oauth2.exchange_code(code, REDIRECT)
    app.bearer_token = tokens.access_token

    assert email == app.users.get_current_user().email
