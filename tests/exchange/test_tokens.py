"""Where access tokens come from, how long they are kept, and who asks for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aries_exchange import AriesAPIError, AriesClient
from tests.exchange.conftest import CLIENT_ID, CLIENT_SECRET, Build, FakeTiming, Sandbox

CREDENTIALS = "client_credentials/issued"
REFRESHED = "refresh_token/issued"


def refusal(client: AriesClient) -> AriesAPIError:
    """Return the error that asking for the person ends in."""
    with pytest.raises(AriesAPIError) as caught:
        client.users.get_current_user()
    return caught.value


def test_nothing_is_sent_before_the_first_call(sandbox: Sandbox, client: AriesClient) -> None:
    """To build a client asks nobody."""
    assert 0 == sandbox.counters()["token_calls"]


def test_a_token_of_the_apps_own_is_kept(sandbox: Sandbox, client: AriesClient) -> None:
    """Calls of one scope share a token."""
    for _ in range(3):
        client.users.get_current_user()

    assert {CREDENTIALS: 1} == sandbox.outcomes()


def test_a_token_has_the_scope_of_its_call_alone(sandbox: Sandbox, client: AriesClient) -> None:
    """An app need not be registered for more than it calls."""
    client.users.get_user_accounts()

    assert ["account:information"] == sandbox.counters()["last_api_scopes"]


@pytest.mark.parametrize(
    ("lifetime", "passed", "tokens"),
    [(3600, 3539, 1), (3600, 3541, 2), (60, 29, 1), (60, 31, 2)],
    ids=["before the last minute", "in the last minute", "a short one, young", "a short one, past half its life"],
)
def test_a_token_is_replaced_shortly_before_its_end(
    sandbox: Sandbox, client: AriesClient, time: FakeTiming, lifetime: int, passed: int, tokens: int
) -> None:
    """A minute before, or at half of a short life."""
    sandbox.behave(access_token_seconds=lifetime)
    client.users.get_current_user()
    time.clock.advance(passed)
    client.users.get_current_user()

    assert {CREDENTIALS: tokens} == sandbox.outcomes()


def test_a_token_without_an_end_is_used_until_it_is_refused(
    sandbox: Sandbox, client: AriesClient, time: FakeTiming
) -> None:
    """What the reply does not say is not guessed; the 401 tells."""
    sandbox.behave(reply_overrides={"expires_in": None})
    client.users.get_current_user()
    time.clock.advance(3599)
    client.users.get_current_user()
    before = sandbox.outcomes()
    time.clock.advance(10)
    client.users.get_current_user()

    assert ({CREDENTIALS: 1}, {CREDENTIALS: 2}) == (before, sandbox.outcomes())


@pytest.mark.parametrize("arguments", [{}, {"refresh_token": ""}], ids=["the app's own", "a person's"])
def test_a_refused_token_is_replaced_once_and_the_call_repeated(
    sandbox: Sandbox, build: Build, arguments: dict[str, str]
) -> None:
    """The caller does not notice that the API forgot a token."""
    if arguments:
        arguments = {"refresh_token": sandbox.refresh_token()}
    client = build(CLIENT_ID, CLIENT_SECRET, **arguments)
    client.users.get_current_user()
    sandbox.revoke_access_tokens()

    assert "ada@example.com" == client.users.get_current_user().email
    assert 2 == sandbox.counters()["token_calls"]


def test_a_call_is_repeated_once_at_most(sandbox: Sandbox, client: AriesClient) -> None:
    """An API that refuses the new token too is believed."""
    sandbox.fail(count=5, target="api", status=401)

    assert 401 == refusal(client).status_code
    assert {"scripted": 2} == sandbox.counters()["api_calls"]


def test_an_order_whose_token_was_refused_is_sent_again(sandbox: Sandbox, client: AriesClient) -> None:
    """A 401 says that it was not carried out: there is one order afterwards."""
    client.orders.preview_order("AAPL", 1, "buy", "market", "day", account_id="TA-1001")
    sandbox.revoke_access_tokens()
    order = client.orders.place_order("AAPL", 1, "buy", "market", "day", account_id="TA-1001")

    assert [order.id] == [listed.id for listed in client.accounts.get_orders("TA-1001")]


def test_without_auto_refresh_a_401_is_the_callers(sandbox: Sandbox, build: Build) -> None:
    """It then refreshes by itself, as documented."""
    token = sandbox.refresh_token()
    client = build(CLIENT_ID, CLIENT_SECRET, refresh_token=token, auto_refresh=False)
    client.users.get_current_user()
    sandbox.revoke_access_tokens()

    assert 401 == refusal(client).status_code
    assert {REFRESHED: 1} == sandbox.outcomes()


def test_the_callers_bearer_token_is_never_replaced(sandbox: Sandbox, client: AriesClient) -> None:
    """The client's own rights may be another person's: a 401 is told."""
    client.bearer_token = "not-a-token"

    assert 401 == refusal(client).status_code
    assert 0 == sandbox.counters()["token_calls"]


def test_without_the_callers_bearer_token_the_clients_own_are_used_again(client: AriesClient) -> None:
    """None takes it away."""
    client.bearer_token = "not-a-token"
    client.bearer_token = None

    assert "ada@example.com" == client.users.get_current_user().email


def test_a_bearer_token_beside_a_refresh_token_is_its_first(sandbox: Sandbox, build: Build) -> None:
    """It serves until it is refused, and is then refreshed: both were given for one person."""
    client = build(
        CLIENT_ID, CLIENT_SECRET, bearer_token="an-old-one", refresh_token=sandbox.refresh_token(), auto_refresh=True
    )
    client.users.get_current_user()

    assert ({REFRESHED: 1}, 401) == (sandbox.outcomes(), _first_status(sandbox))


def _first_status(sandbox: Sandbox) -> int:
    """Return the status of the call that was refused."""
    calls = sandbox.counters()["api_calls"]
    (refused,) = [call for call in calls if call.endswith("401")]
    return int(refused.rpartition(" ")[2])


def test_a_rotated_refresh_token_is_kept(sandbox: Sandbox, build: Build, time: FakeTiming) -> None:
    """Each refresh presents the newest; to present a spent one would end the grant."""
    client = build(CLIENT_ID, CLIENT_SECRET, refresh_token=sandbox.refresh_token())
    for _ in range(3):
        client.users.get_current_user()
        time.clock.advance(3600)

    assert ({REFRESHED: 3}, 0) == (sandbox.outcomes(), sandbox.counters()["reuses"])


def test_the_caller_may_hold_on_to_the_token_it_began_with(sandbox: Sandbox, build: Build) -> None:
    """The documented calls show no other, whoever of client and caller refreshed."""
    first = sandbox.refresh_token()
    client = build(CLIENT_ID, CLIENT_SECRET, refresh_token=first)
    client.users.get_current_user()
    tokens = [client.oauth2.refresh_token(first) for _ in range(2)]
    sandbox.revoke_access_tokens()
    client.users.get_current_user()

    assert 0 == sandbox.counters()["reuses"]
    assert 3 == len({first, *(each.refresh_token for each in tokens)})


def test_a_provider_that_does_not_rotate_is_asked_with_the_same_token(sandbox: Sandbox, build: Build) -> None:
    """A reply without a refresh token leaves the one there is, and it is what the caller is told."""
    sandbox.behave(rotation="none")
    first = sandbox.refresh_token()
    client = build(CLIENT_ID, CLIENT_SECRET)

    assert [first, first] == [client.oauth2.refresh_token(first).refresh_token for _ in range(2)]


@pytest.mark.parametrize("arguments", [{}, {"refresh_token": ""}], ids=["the app's own", "a person's"])
def test_many_threads_ask_once(sandbox: Sandbox, build: Build, arguments: dict[str, str]) -> None:
    """While one asks, the others wait for what it gets."""
    if arguments:
        arguments = {"refresh_token": sandbox.refresh_token()}
    client = build(CLIENT_ID, CLIENT_SECRET, **arguments)
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return client.users.get_current_user().email

    with ThreadPoolExecutor(8) as threads:
        assert ["ada@example.com"] * 8 == list(threads.map(ask, range(8)))
    assert 1 == sandbox.counters()["token_calls"]


def test_many_threads_replace_a_refused_token_once(sandbox: Sandbox, build: Build) -> None:
    """Who comes late takes the token that another one got."""
    client = build(CLIENT_ID, CLIENT_SECRET, refresh_token=sandbox.refresh_token())
    client.users.get_current_user()
    sandbox.revoke_access_tokens()
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return client.users.get_current_user().email

    with ThreadPoolExecutor(8) as threads:
        assert ["ada@example.com"] * 8 == list(threads.map(ask, range(8)))
    assert {REFRESHED: 2} == sandbox.outcomes()


def test_a_token_that_lives_serves_on_while_there_is_no_other(
    sandbox: Sandbox, client: AriesClient, time: FakeTiming
) -> None:
    """A token endpoint that is down in a token's last minute costs nothing, and is left alone for some seconds."""
    client.users.get_current_user()
    time.clock.advance(3545)
    sandbox.fail(status=500)
    emails = {client.users.get_current_user().email for _ in range(2)}
    meanwhile = sandbox.outcomes()
    time.clock.advance(6)
    client.users.get_current_user()

    assert ({"ada@example.com"}, {CREDENTIALS: 1, "-/scripted": 1}) == (emails, meanwhile)
    assert {CREDENTIALS: 2, "-/scripted": 1} == sandbox.outcomes()


def test_a_refresh_is_not_sent_twice_by_itself(sandbox: Sandbox, build: Build) -> None:
    """Its answer was lost, and the token in it may be spent: the caller is told."""
    client = build(CLIENT_ID, CLIENT_SECRET, refresh_token=sandbox.refresh_token())
    sandbox.fail(body="drop", when="after")

    assert 0 == refusal(client).status_code
    assert 1 == sandbox.counters()["token_calls"]


@pytest.mark.parametrize(
    "overrides",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "two words"},
        {"access_token": "line\nbreak"},
        {"access_token": 7},
        {"token_type": "DPoP"},
    ],
    ids=str,
)
def test_a_token_that_cannot_be_sent_is_refused(
    sandbox: Sandbox, client: AriesClient, overrides: dict[str, object]
) -> None:
    """The reply is not what is documented, and is not repeated in the error."""
    sandbox.behave(reply_overrides=overrides)

    assert "the token endpoint's answer holds" in refusal(client).message


@pytest.mark.parametrize("expires_in", [-1, 0, "soon", True, [3600]], ids=str)
def test_a_lifetime_that_is_none_is_not_believed(sandbox: Sandbox, client: AriesClient, expires_in: object) -> None:
    """Such a token is used until it is refused."""
    sandbox.behave(reply_overrides={"expires_in": expires_in})
    tokens = client.oauth2.refresh_token(sandbox.refresh_token())

    assert tokens.expires_in is None
    assert "ada@example.com" == client.users.get_current_user().email


def test_a_bearer_token_taken_away_during_its_call_is_not_replaced_either(
    sandbox: Sandbox, client: AriesClient
) -> None:
    """The call began in one person's name, and does not end in another's."""
    client.bearer_token = "somebodys-token"
    sandbox.fail(target="api", status=401, delay_seconds=0.3)
    with ThreadPoolExecutor(1) as thread:
        error = thread.submit(refusal, client)
        while not sandbox.counters()["api_calls"]:
            pass
        client.bearer_token = None

    assert (401, 0) == (error.result().status_code, sandbox.counters()["token_calls"])
