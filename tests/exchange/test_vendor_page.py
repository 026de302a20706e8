"""The vendor's documentation of the SDK, section by section, in each of the ways a client can be built."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from dotenv import load_dotenv

from aries_exchange import AriesAPIError, AriesClient
from tests.exchange.conftest import CLIENT_ID, CLIENT_SECRET, REDIRECT, Sandbox
from tests.exchange.login_steps import ADA, PASSWORDS
from tests.support.canary import MFA_CODE
from tests.support.sandbox import NO_AUTHORITIES, SandboxDriver
from tests.support.world import Desk, World

READ = "account:information order:information position:information user:information"
EMAIL = "ada@example.com"


@pytest.fixture(scope="module")
def served(real_sandbox: SandboxDriver) -> SandboxDriver:
    """The sandbox that the broker knows."""
    return real_sandbox


Way = Callable[[], AriesClient]


class Ways:
    """The ways to build a client, each for a person with two accounts."""

    def __init__(self, sandbox: Sandbox, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.request = request
        self.monkeypatch = monkeypatch
        self.built: list[AriesClient] = []

    def kept(self, client: AriesClient) -> AriesClient:
        """Return the client, which is closed in the end."""
        self.built.append(client)
        return client

    def by_credentials(self) -> AriesClient:
        """The app's own rights."""
        return self.kept(AriesClient(client_id=CLIENT_ID, client_secret=CLIENT_SECRET))

    def by_refresh_token(self) -> AriesClient:
        """A person's consent, refreshed automatically."""
        return self.kept(
            AriesClient(
                client_id=CLIENT_ID,
                client_secret=CLIENT_SECRET,
                refresh_token=self.sandbox.refresh_token(),
                auto_refresh=True,
            )
        )

    def by_bearer_token(self) -> AriesClient:
        """An access token that is there already."""
        tokens = self.by_credentials().oauth2.refresh_token(refresh_token=self.sandbox.refresh_token())
        return self.kept(AriesClient(bearer_token=tokens.access_token))

    def by_broker(self) -> AriesClient:
        """The same code as with credentials, in a process that has none."""
        self.at_broker()
        return self.kept(
            AriesClient(client_id=os.getenv("ARIES_CLIENT_ID"), client_secret=os.getenv("ARIES_CLIENT_SECRET"))
        )

    def at_broker(self, kind: str = "client_credentials") -> Desk:
        """Make a grant at the broker, and set the variables that name it."""
        world: World = self.request.getfixturevalue("world")
        desk = self.sandbox.loop.run(world.desk(kind))
        variables = {"ARIES_BROKER": world.process.address, "ARIES_GRANT": desk.grant, "BROKER_API_KEY": desk.key}
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.delenv("ARIES_BASE_URL")
        return desk


@pytest.fixture
def ways(sandbox: Sandbox, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    """Ways to the module's sandbox."""
    monkeypatch.setenv("ARIES_BASE_URL", sandbox.url)
    ways = Ways(sandbox, request, monkeypatch)
    yield ways
    for client in ways.built:
        client.close()


@pytest.fixture(params=["by_credentials", "by_refresh_token", "by_bearer_token", "by_broker"])
def way(ways: Ways, request: pytest.FixtureRequest) -> Way:
    """Each of the ways."""
    found: Way = getattr(ways, request.param)
    return found


@pytest.fixture
def app(ways: Ways) -> AriesClient:
    """The app as it talks to Aries itself."""
    return ways.by_credentials()


def query(url: str) -> dict[str, str]:
    """Return the parameters of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def status_of(call: Callable[[], object]) -> int:
    """Return the status a call is refused with."""
    with pytest.raises(AriesAPIError) as caught:
        call()
    return caught.value.status_code


# --- Authentication flow ---------------------------------------------------------------------------------------------


def test_initialize_the_sdk(way: Way) -> None:
    """The first call just works: tokens are the SDK's business."""
    client = way()

    assert (EMAIL, ["TA-1001", "TA-1002"]) == (
        client.users.get_current_user().email,
        [account.id for account in client.users.get_user_accounts()],
    )


# --- Authorization code flow -----------------------------------------------------------------------------------------


def test_authorization_code_step_1(app: AriesClient, sandbox: Sandbox) -> None:
    """The URL names everything that the login page needs."""
    url = app.oauth2.get_authorization_url(redirect_uri=REDIRECT, scope=["read", "trade"], state="random_state_string")

    assert f"{sandbox.url}/oauth2/authorize" == url.partition("?")[0]
    assert {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT,
        "scope": f"{READ} order:execution",
        "state": "random_state_string",
    } == query(url)


@pytest.mark.parametrize("more", [{"state": "random_state_string"}, {"code_challenge": "c" * 43}], ids=["code", "PKCE"])
def test_the_url_opens_the_login_page(app: AriesClient, more: dict[str, str]) -> None:
    """The server finds everything in it that it wants."""
    url = app.oauth2.get_authorization_url(REDIRECT, ["read", "trade"], **more)
    with httpx2.Client(trust_env=False, verify=NO_AUTHORITIES, follow_redirects=True) as browser:
        page = browser.get(url)

    assert (200, True) == (page.status_code, 'name="password"' in page.text)


def test_authorization_code_step_3(app: AriesClient, sandbox: Sandbox) -> None:
    """The code is exchanged for tokens that last an hour, and works once."""
    code = sandbox.code()
    tokens = app.oauth2.exchange_code(code=code, redirect_uri=REDIRECT)

    assert 3600 == tokens.expires_in
    assert tokens.refresh_token is not None
    app.bearer_token = tokens.access_token
    assert EMAIL == app.users.get_current_user().email
    assert 400 == status_of(lambda: app.oauth2.exchange_code(code=code, redirect_uri=REDIRECT))


def test_a_code_for_another_redirect_uri_is_refused(app: AriesClient, sandbox: Sandbox) -> None:
    """To the letter."""
    assert 400 == status_of(lambda: app.oauth2.exchange_code(sandbox.code(), f"{REDIRECT}/"))


# --- PKCE ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def verifier() -> str:
    """A code verifier as the documentation makes it."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


@pytest.fixture
def challenge(verifier: str) -> str:
    """Its challenge."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


@pytest.mark.parametrize("method", ["S256", None])
def test_pkce_step_1(app: AriesClient, challenge: str, method: str | None) -> None:
    """The challenge is in the URL with its method; scope and state may be left out."""
    url = app.oauth2.get_authorization_url(
        redirect_uri=REDIRECT, code_challenge=challenge, code_challenge_method=method
    )

    assert {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    } == query(url)


@pytest.mark.parametrize("client_id", [CLIENT_ID, "mobile-app"])
def test_pkce_step_2(ways: Ways, sandbox: Sandbox, verifier: str, challenge: str, client_id: str) -> None:
    """The verifier makes the code good, for an app with a secret and for one without."""
    secret = CLIENT_SECRET if client_id == CLIENT_ID else None
    client = ways.kept(AriesClient(client_id=client_id, client_secret=secret))
    code = sandbox.code(client_id=client_id, code_challenge=challenge)

    assert 400 == status_of(lambda: client.oauth2.exchange_code(code, REDIRECT, code_verifier="x" * 43))
    assert 3600 == client.oauth2.exchange_code(code, REDIRECT, code_verifier=verifier).expires_in


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"code_challenge": "c" * 43, "code_challenge_method": "plain"}, "code_challenge_method must be S256"),
        ({"code_challenge_method": "S256"}, "without a code_challenge"),
        ({"code_challenge": "short"}, "43 characters"),
        ({"code_challenge": "c" * 42 + "="}, "43 characters"),
    ],
    ids=str,
)
def test_a_challenge_that_proves_nothing_is_refused(app: AriesClient, arguments: dict[str, str], expected: str) -> None:
    """By the URL as by the login without a browser."""
    with pytest.raises(ValueError, match=expected):
        app.oauth2.get_authorization_url(REDIRECT, **arguments)
    with pytest.raises(ValueError, match=expected):
        app.oauth2.authorize(EMAIL, "password", REDIRECT, **arguments)  # type: ignore[arg-type]  # the same


@pytest.mark.parametrize("verifier", ["short", "x" * 129, "x" * 42 + "="])
def test_a_verifier_that_is_none_is_refused(app: AriesClient, verifier: str) -> None:
    """Before the code is spent on it."""
    with pytest.raises(ValueError, match="code_verifier must have 43 to 128"):
        app.oauth2.exchange_code("code", REDIRECT, code_verifier=verifier)


# --- MFA verification ------------------------------------------------------------------------------------------------


def test_mfa_verification(app: AriesClient) -> None:
    """The session token of the beginning and the code from the phone give what is exchanged for tokens."""
    auth_response = app.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"], consent=lambda _: True)
    wrong = status_of(lambda: app.oauth2.verify_mfa(code="654321", session_token=auth_response.session_token))
    mfa_result = app.oauth2.verify_mfa(code=MFA_CODE, session_token=auth_response.session_token)
    tokens = app.oauth2.exchange_code(code=mfa_result.authorization_code, redirect_uri=REDIRECT)
    app.bearer_token = tokens.access_token

    assert (401, 3600, EMAIL) == (wrong, tokens.expires_in, app.users.get_current_user().email)


# --- Token management ------------------------------------------------------------------------------------------------


def test_refreshing_access_tokens(app: AriesClient, sandbox: Sandbox) -> None:
    """As often as one likes, with the tokens of the exchange."""
    tokens = app.oauth2.exchange_code(sandbox.code(), REDIRECT)
    assert tokens.refresh_token is not None
    new_tokens = [app.oauth2.refresh_token(refresh_token=tokens.refresh_token) for _ in range(2)]

    assert [3600, 3600] == [each.expires_in for each in new_tokens]
    assert 3 == len({tokens.access_token, *(each.access_token for each in new_tokens)})


def test_a_refresh_token_that_is_none_is_refused(app: AriesClient) -> None:
    """As the documented error."""
    assert 400 == status_of(lambda: app.oauth2.refresh_token("not-a-refresh-token"))
    with pytest.raises(ValueError, match="refresh_token is empty"):
        app.oauth2.refresh_token("")


@pytest.mark.parametrize("name", ["by_credentials", "by_refresh_token", "by_broker"])
def test_automatic_token_refresh(ways: Ways, sandbox: Sandbox, name: str) -> None:
    """Calls do not care that tokens end."""
    client: AriesClient = getattr(ways, name)()
    before = client.users.get_user_accounts()
    sandbox.revoke_access_tokens()

    assert before == client.users.get_user_accounts()


def test_using_bearer_tokens_directly(ways: Ways) -> None:
    """It is sent as it is; one that is not good is a 401."""
    assert EMAIL == ways.by_bearer_token().users.get_current_user().email
    assert 401 == status_of(ways.kept(AriesClient(bearer_token="your_access_token")).users.get_current_user)


# --- Security best practices -----------------------------------------------------------------------------------------


def test_store_credentials_securely(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app reads the environment, or leaves it to the client."""
    monkeypatch.setenv("ARIES_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("ARIES_CLIENT_SECRET", CLIENT_SECRET)
    read = AriesClient(client_id=os.getenv("ARIES_CLIENT_ID"), client_secret=os.getenv("ARIES_CLIENT_SECRET"))

    assert [EMAIL] * 2 == [ways.kept(client).users.get_current_user().email for client in (read, AriesClient())]


def test_use_environment_variables(
    ways: Ways, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `.env` that the app loads, and one that the client is told of."""
    token = sandbox.refresh_token()
    file = tmp_path / ".env"
    file.write_text(f"ARIES_CLIENT_ID={CLIENT_ID}\nARIES_CLIENT_SECRET={CLIENT_SECRET}\nARIES_REFRESH_TOKEN={token}\n")
    told = ways.kept(AriesClient(dotenv=file)).users.get_current_user().email
    granted = sandbox.counters()["last_token_call"]["grant_type"]
    for name in ("ARIES_CLIENT_ID", "ARIES_CLIENT_SECRET", "ARIES_REFRESH_TOKEN"):
        monkeypatch.setenv(name, "")  # set, so that what is loaded is taken away again
    load_dotenv(file, override=True)
    loaded = AriesClient(client_id=os.getenv("ARIES_CLIENT_ID"), client_secret=os.getenv("ARIES_CLIENT_SECRET"))

    assert (EMAIL, "refresh_token") == (told, granted)
    assert EMAIL == ways.kept(loaded).users.get_current_user().email


def test_handle_token_expiration(ways: Ways, sandbox: Sandbox) -> None:
    """A 401 is told apart, the token refreshed by hand, and the call repeated."""
    app = ways.by_credentials()
    tokens = app.oauth2.exchange_code(sandbox.code(), REDIRECT)
    app.bearer_token = tokens.access_token
    sandbox.revoke_access_tokens()
    refused = status_of(app.users.get_current_user)
    app.bearer_token = app.oauth2.refresh_token(tokens.refresh_token or "").access_token

    assert (401, EMAIL) == (refused, app.users.get_current_user().email)


def test_handle_token_expiration_through_the_broker(ways: Ways, sandbox: Sandbox) -> None:
    """The same, with a handle in place of the refresh token: the broker hands out another than the refused one."""
    ways.at_broker("refresh_token")
    client = ways.kept(AriesClient())
    handle = f"broker-grant:{os.environ['ARIES_GRANT']}"
    tokens = client.oauth2.refresh_token(handle)
    client.bearer_token = tokens.access_token
    assert EMAIL == client.users.get_current_user().email
    sandbox.revoke_access_tokens()
    assert 401 == status_of(client.users.get_current_user)
    new_tokens = client.oauth2.refresh_token(refresh_token=tokens.refresh_token or "")
    client.bearer_token = new_tokens.access_token

    assert EMAIL == client.users.get_current_user().email
    assert (handle, handle) == (tokens.refresh_token, new_tokens.refresh_token)


def test_scope_limitations(app: AriesClient) -> None:
    """Only what is asked for is in the URL; what the wire has no word for is asked for as it is."""
    read_only = app.oauth2.get_authorization_url(redirect_uri=REDIRECT, scope=["read"])
    full = app.oauth2.get_authorization_url(redirect_uri=REDIRECT, scope=["read", "trade", "withdraw"])

    assert [READ, f"{READ} order:execution withdraw"] == [query(url)["scope"] for url in (read_only, full)]


# --- Scopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "reads", "trades"),
    [(READ.split(), "served", 403), (["order:execution"], 403, "served")],
    ids=["read", "trade"],
)
def test_scopes(ways: Ways, sandbox: Sandbox, scopes: list[str], reads: object, trades: object) -> None:
    """Read does not trade, and trade does not read; what is lacking is a 403."""
    token = sandbox.refresh_token(scopes=scopes)
    client = ways.kept(AriesClient(CLIENT_ID, CLIENT_SECRET, refresh_token=token))

    assert (reads, trades) == (outcome(client.users.get_current_user), outcome(lambda: preview(client)))


def preview(client: AriesClient) -> object:
    """Preview an order."""
    return client.orders.preview_order("AAPL", 1, "buy", "market", "day", account_id="TA-1001")


def outcome(call: Callable[[], object]) -> int | str:
    """Return how a call ended."""
    try:
        call()
    except AriesAPIError as error:
        return error.status_code
    return "served"


# --- Error handling --------------------------------------------------------------------------------------------------


def test_invalid_credentials(ways: Ways) -> None:
    """The client is built, and its first call is a 401."""
    client = ways.kept(AriesClient(client_id="invalid_client_id", client_secret="invalid_secret"))

    assert 401 == status_of(client.users.get_current_user)


def test_rate_limiting(way: Way, sandbox: Sandbox) -> None:
    """An order past the limit is a 429 with the seconds to wait, and the order is not sent again."""
    client = way()
    preview(client)
    sandbox.behave(api_requests=0, api_window_seconds=30)
    with pytest.raises(AriesAPIError) as caught:
        client.orders.place_order("AAPL", 1, "buy", "market", "day", account_id="TA-1001")

    assert (429, "30") == (caught.value.status_code, caught.value.headers.get("Retry-After"))
    assert 1 == sandbox.counters()["api_calls"]["POST /v1/orders 429"]


# --- Orders, in each of the ways -------------------------------------------------------------------------------------


def test_orders(way: Way) -> None:
    """Placed, updated and cancelled, by id alone."""
    client = way()
    placed = client.orders.place_order(
        symbol="AAPL",
        quantity=10,
        side="buy",
        order_type="limit",
        time_in_force="day",
        price=150.0,
        account_id="TA-1001",
    )
    updated = client.orders.update_order(order_id=placed.id, quantity=5, price=151.0)
    cancelled = client.orders.cancel_order(order_id=updated.id)

    assert ("new", "new", "cancelled") == (placed.status, updated.status, cancelled.status)


# --- Complete example ------------------------------------------------------------------------------------------------


def test_complete_example(ways: Ways, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The program as the documentation ends with it: credentials of the environment, and three kinds of errors."""

    def main() -> None:
        client = ways.kept(
            AriesClient(
                client_id=os.getenv("ARIES_CLIENT_ID"),
                client_secret=os.getenv("ARIES_CLIENT_SECRET"),
                auto_refresh=True,
            )
        )
        try:
            print(client.users.get_current_user().email, len(client.users.get_user_accounts()))  # noqa: T201 - its way
        except AriesAPIError as error:
            known = {401: "authentication failed", 403: "access forbidden"}
            print(known.get(error.status_code, error.message))  # noqa: T201 - its way

    monkeypatch.setenv("ARIES_CLIENT_ID", CLIENT_ID)
    for secret in (CLIENT_SECRET, "another-secret"):
        monkeypatch.setenv("ARIES_CLIENT_SECRET", secret)
        main()
    monkeypatch.delenv("ARIES_CLIENT_ID")
    monkeypatch.delenv("ARIES_CLIENT_SECRET")
    ways.at_broker()
    main()

    assert [f"{EMAIL} 2", "authentication failed", f"{EMAIL} 2"] == capsys.readouterr().out.splitlines()
