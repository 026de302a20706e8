"""What is sent again by itself, after how long, and what never is."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from aries_exchange import AriesAPIError, AriesClient, AriesConnectionError, Timing
from aries_exchange.retries import MAX_ATTEMPTS, Repeat, parse_retry_after, wait_before
from tests.exchange.conftest import CLIENT_ID, CLIENT_SECRET, Build, FakeTiming, Sandbox

NOW = 1_800_000_000.0


@pytest.fixture
def ready(client: AriesClient) -> AriesClient:
    """A client that has its tokens."""
    client.users.get_current_user()
    client.orders.preview_order("AAPL", 1, "buy", "market", "day", account_id="TA-1001")
    return client


def place(client: AriesClient) -> AriesAPIError:
    """Return the error that placing an order ends in."""
    with pytest.raises(AriesAPIError) as caught:
        client.orders.place_order("AAPL", 1, "buy", "market", "day", account_id="TA-1001")
    return caught.value


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": formatdate(NOW + 9, usegmt=True)}, 9.0),
        ({"Retry-After": formatdate(NOW - 9, usegmt=True)}, 0.0),
        ({"Retry-After": formatdate(NOW + 69, usegmt=True), "Date": formatdate(NOW + 60, usegmt=True)}, 9.0),
        ({"Retry-After": "-7"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "\u0667"}, None),
        ({"Retry-After": "9" * 400}, None),
    ],
    ids=str,
)
def test_a_wait_that_is_asked_for_is_read(headers: dict[str, str], expected: float | None) -> None:
    """Seconds or a date, which counts from the reply's own; anything else asks for nothing."""
    assert expected == parse_retry_after(headers, NOW)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "chance", "expected"),
    [
        (1, None, 0.0, 0.5),
        (2, None, 0.0, 1.0),
        (3, None, 0.5, 3.0),
        (1, 7.0, 0.0, 7.0),
        (1, 7.0, 0.5, 7.25),
        (3, 0.0, 0.0, 2.0),
        (30, None, 0.0, 8.0),
    ],
)
def test_waits_grow_and_are_spread(attempt: int, retry_after: float | None, chance: float, expected: float) -> None:
    """They double up to a bound, are never shorter than what was asked for, and chance lengthens them."""
    assert expected == wait_before(attempt, retry_after, chance)


@pytest.mark.parametrize(
    ("repeat", "statuses", "unconnected", "broken"),
    [
        (Repeat.READ, [429, 502, 503, 504], True, True),
        (Repeat.UNSENT, [429], True, False),
        (Repeat.NEVER, [], False, False),
    ],
)
def test_what_may_be_sent_again(repeat: Repeat, statuses: list[int], *, unconnected: bool, broken: bool) -> None:
    """A read after what passes; a refresh where it had no effect; an order never."""
    everything = [400, 401, 403, 404, 409, 429, 500, 502, 503, 504]
    breaks = [AriesConnectionError(0, "", sent=False), AriesConnectionError(0, "")]

    assert statuses == [status for status in everything if repeat.after(AriesAPIError(status, ""))]
    assert [unconnected, broken] == [repeat.after(failure) for failure in breaks]


def test_a_read_waits_as_long_as_it_is_told(sandbox: Sandbox, ready: AriesClient, time: FakeTiming) -> None:
    """Then it is answered, and the caller does not notice."""
    time.luck = 0.5
    sandbox.fail(target="api", status=429, body="nested", headers={"Retry-After": "7"})

    assert "ada@example.com" == ready.users.get_current_user().email
    assert [7.25] == time.waits


def test_a_read_waits_until_a_date(sandbox: Sandbox, build: Build, time: FakeTiming) -> None:
    """The reply's own date says from when, so a wrong clock of ours does not matter."""
    wrong = Timing(time.clock, lambda: 0.0, time.sleep, lambda: 0.0)
    client = build(CLIENT_ID, CLIENT_SECRET, timing=wrong)
    date = formatdate(time.clock() + 9, usegmt=True)
    sandbox.fail(target="api", status=429, headers={"Retry-After": date})
    client.users.get_current_user()

    assert [9.0] == time.waits


def test_a_preview_is_a_read(sandbox: Sandbox, ready: AriesClient, time: FakeTiming) -> None:
    """It changes nothing, though it is posted."""
    sandbox.fail(target="api", status=503)
    ready.orders.preview_order("AAPL", 1, "buy", "market", "day", account_id="TA-1001")

    assert [0.5] == time.waits


def test_reads_are_not_tried_for_ever(sandbox: Sandbox, ready: AriesClient, time: FakeTiming) -> None:
    """After the last attempt the error is the caller's, with what the reply asked for."""
    sandbox.fail(count=10, target="api", status=429, headers={"Retry-After": "2"})
    with pytest.raises(AriesAPIError) as caught:
        ready.users.get_current_user()

    assert (429, "2", [2.0] * (MAX_ATTEMPTS - 1)) == (
        caught.value.status_code,
        caught.value.headers.get("Retry-After"),
        time.waits,
    )


def test_a_wait_that_is_too_long_is_the_callers(sandbox: Sandbox, ready: AriesClient, time: FakeTiming) -> None:
    """Neither is it waited for, nor asked again sooner than told."""
    sandbox.fail(target="api", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(AriesAPIError) as caught:
        ready.users.get_current_user()

    assert ("3600", []) == (caught.value.headers.get("retry-after"), time.waits)


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_what_does_not_pass_is_not_tried_again(
    sandbox: Sandbox, ready: AriesClient, time: FakeTiming, status: int
) -> None:
    """It would only be refused again."""
    sandbox.fail(target="api", status=status)
    with pytest.raises(AriesAPIError) as caught:
        ready.users.get_current_user()

    assert (status, []) == (caught.value.status_code, time.waits)


@pytest.mark.parametrize("body", ["drop", "cut"])
def test_a_read_whose_connection_broke_is_sent_again(
    sandbox: Sandbox, ready: AriesClient, time: FakeTiming, body: str
) -> None:
    """With no reply or with half of one."""
    sandbox.fail(target="api", body=body, when="after")

    assert "ada@example.com" == ready.users.get_current_user().email
    assert [0.5] == time.waits


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_order_is_sent_once(sandbox: Sandbox, ready: AriesClient, time: FakeTiming, status: int) -> None:
    """Whatever comes back is the caller's, without a wait."""
    sandbox.fail(target="api", status=status, headers={"Retry-After": "1"})

    error = place(ready)

    assert (status, "1", []) == (error.status_code, error.headers.get("Retry-After"), time.waits)


@pytest.mark.parametrize("body", ["drop", "cut"])
def test_an_order_whose_answer_was_lost_is_in_doubt(
    sandbox: Sandbox, ready: AriesClient, time: FakeTiming, body: str
) -> None:
    """It took effect once, and the caller is told to look."""
    sandbox.fail(target="api", body=body, when="after")
    error = place(ready)

    assert isinstance(error, AriesConnectionError)
    assert (True, 0) == (error.sent, error.status_code)
    assert "may have taken effect" in error.message
    assert 1 == len(ready.accounts.get_orders("TA-1001"))


def test_without_a_connection_the_caller_knows_that_nothing_was_sent(build: Build, time: FakeTiming) -> None:
    """A port that nobody listens on: reads are tried some times, orders once."""
    reader = build(bearer_token="some-token", base_url="http://127.0.0.1:1")
    with pytest.raises(AriesConnectionError) as caught:
        reader.users.get_current_user()
    waited = list(time.waits)
    error = place(reader)

    assert ([0.5, 1.0, 2.0], waited) == (waited, time.waits)
    assert isinstance(error, AriesConnectionError)
    assert (False, False) == (caught.value.sent, error.sent)
    assert "nothing was sent" in error.message


def test_a_reply_that_takes_too_long_altogether_is_given_up(sandbox: Sandbox, build: Build, time: FakeTiming) -> None:
    """However steadily it drips."""

    def hurried() -> float:
        time.clock.advance(4)
        return time.clock()

    token = build(CLIENT_ID, CLIENT_SECRET).oauth2.refresh_token(sandbox.refresh_token()).access_token
    client = build(bearer_token=token, timing=Timing(hurried, time.clock, time.sleep, lambda: 0.0))
    sandbox.fail(count=MAX_ATTEMPTS, target="api", body="drip", when="after", drip_seconds=0.001)
    with pytest.raises(AriesConnectionError, match="before the whole answer"):
        client.users.get_current_user()


def test_a_limit_of_the_token_endpoint_is_waited_for(sandbox: Sandbox, build: Build, time: FakeTiming) -> None:
    """It took no refresh token, so nothing is spent."""
    client = build(CLIENT_ID, CLIENT_SECRET, refresh_token=sandbox.refresh_token())
    sandbox.fail(status=429, headers={"Retry-After": "3"})

    assert "ada@example.com" == client.users.get_current_user().email
    assert [3.0] == time.waits


def test_an_order_does_not_wait_for_its_token(sandbox: Sandbox, client: AriesClient, time: FakeTiming) -> None:
    """Prices move meanwhile: the caller decides."""
    sandbox.fail(status=429, headers={"Retry-After": "3"})

    assert (429, []) == (place(client).status_code, time.waits)


def test_a_lost_answer_of_the_token_endpoint_is_asked_for_again(
    sandbox: Sandbox, client: AriesClient, time: FakeTiming
) -> None:
    """By the app's own rights, which nothing is spent for."""
    sandbox.fail(body="drop", when="after")
    client.users.get_current_user()

    assert [0.5] == time.waits
