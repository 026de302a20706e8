"""What the SDK's orders and accounts are on the wire, and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from aries_exchange import AriesAPIError, AriesClient
from aries_exchange.accounts import Balances
from aries_exchange.amounts import Amount, build_amount
from aries_exchange.order import Order, Preview
from tests.exchange.conftest import CLIENT_ID, CLIENT_SECRET, Build, Sandbox

ACCOUNT = "TA-1001"
PLACE = ("AAPL", 1, "buy", "limit", "day", 150.25)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10, "10"),
        (150.25, "150.25"),
        (0.1 + 0.2, "0.3"),
        (1.1 * 3, "3.3"),
        (100.0, "100"),
        (1e-5, "0.00001"),
        (123_456_789.12, "123456789.12"),
        (1e14, "100000000000000"),
        (Decimal("150.00"), "150"),
        (Decimal("1E+2"), "100"),
        ("7.5", "7.5"),
    ],
    ids=repr,
)
def test_an_amount_is_a_decimal_string(value: Amount, expected: str) -> None:
    """Without exponent, noise of binary arithmetic or zeros that say nothing."""
    assert expected == build_amount("price", value)


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        0.0,
        float("nan"),
        float("inf"),
        1.234567,
        1e-6,
        Decimal("0.000001"),
        Decimal("1.000001"),
        Decimal("1.0000000000000001"),
        "1.0000000000000001",
        Decimal("NaN"),
        "seven",
        "",
        10**15,
        Decimal("1e999999"),
    ],
    ids=repr,
)
def test_an_amount_that_would_be_another_is_refused(value: Amount) -> None:
    """It is not rounded to one that nobody asked for."""
    with pytest.raises(ValueError, match=r"^price must "):
        build_amount("price", value)


def test_a_truth_value_is_no_amount() -> None:
    """Python would take it for one share."""
    with pytest.raises(TypeError, match=r"^quantity is a number"):
        build_amount("quantity", value=True)


def test_an_order_is_placed_in_the_wires_words(sandbox: Sandbox, client: AriesClient) -> None:
    """Upper-case words and decimal strings, the account in the field of the newest generation."""
    order = client.orders.place_order("aapl", 10, "buy", "stop_limit", "gtc", 150.1 + 0.2, 140.5, account_id=ACCOUNT)
    fields = sandbox.driver.running.state.orders[order.id].fields

    assert {
        "symbol": "AAPL",
        "side": "BUY",
        "type": "STOP_LIMIT",
        "timeInForce": "GTC",
        "qty": "10",
        "price": "150.3",
        "stopPrice": "140.5",
    } == fields


def test_an_order_comes_back_in_the_sdks_words(client: AriesClient) -> None:
    """Lower case, floats, and an id."""
    order = client.orders.place_order(*PLACE, account_id=ACCOUNT)
    expected = Order(
        id="SBX-000001",
        status="new",
        account_id=ACCOUNT,
        symbol="AAPL",
        side="buy",
        order_type="limit",
        time_in_force="day",
        quantity=1.0,
        filled_quantity=0.0,
        remaining_quantity=1.0,
        price=150.25,
        created_at=order.created_at,
    )

    assert expected == order
    assert [expected] == client.accounts.get_orders(ACCOUNT)


def test_an_order_the_market_refuses_is_an_answer(client: AriesClient) -> None:
    """HTTP 200 and a reason, no exception."""
    order = client.orders.place_order("AAPL", 1_000_000, "buy", "market", "day", account_id=ACCOUNT)

    assert ("rejected", "INSUFFICIENT_BUYING_POWER") == (order.status, order.reject_reason)


def test_the_only_open_account_need_not_be_named(build: Build) -> None:
    """A closed one does not count."""
    client = build("lone-app", "lone-secret")

    assert "TA-2001" == client.orders.place_order(*PLACE).account_id
    assert 150.25 == client.orders.preview_order(*PLACE).estimated_cost


def test_of_several_open_accounts_one_must_be_named(sandbox: Sandbox, client: AriesClient) -> None:
    """Which one is traded on is not guessed, and nothing is sent."""
    with pytest.raises(ValueError, match="2 accounts are open"):
        client.orders.place_order(*PLACE)

    assert {} == sandbox.driver.running.state.orders


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"symbol": "two;words"}, "symbol"),
        ({"symbol": ""}, "symbol"),
        ({"side": "hold"}, "side"),
        ({"order_type": "iceberg"}, "order_type"),
        ({"time_in_force": "forever"}, "time_in_force"),
        ({"quantity": 0}, "quantity"),
        ({"price": None}, "price is needed"),
        ({"order_type": "market"}, "price is not used"),
        ({"stop_price": 1.0}, "stop_price is not used"),
        ({"order_type": "stop_limit"}, "stop_price is needed"),
    ],
    ids=str,
)
def test_an_order_that_cannot_be_right_is_not_sent(
    sandbox: Sandbox, client: AriesClient, changes: dict[str, Any], expected: str
) -> None:
    """The message names the argument."""
    fields = dict(zip(("symbol", "quantity", "side", "order_type", "time_in_force", "price"), PLACE, strict=True))
    for call in (client.orders.place_order, client.orders.preview_order):
        with pytest.raises(ValueError, match=f"^{expected}"):
            call(**{**fields, **changes}, account_id=ACCOUNT)

    assert 0 == sandbox.counters()["token_calls"]


def test_a_preview_adds_up(client: AriesClient) -> None:
    """Cost, commission and fees, and their total."""
    previewed = client.orders.preview_order(*PLACE, account_id=ACCOUNT)

    assert Preview(150.25, 0.0, 0.0, 150.25, 150.25, (), ()) == previewed


def test_an_order_is_updated_by_its_id_alone(sandbox: Sandbox, client: AriesClient) -> None:
    """The client remembers account and symbol; the order goes on under a new id, by which it is updated again."""
    first = client.orders.place_order(*PLACE, account_id=ACCOUNT)
    second = client.orders.update_order(first.id, quantity=2)
    third = client.orders.update_order(second.id, price=151)

    assert (first.id, 2.0, 150.25, "buy") == (second.replaced_id, second.quantity, second.price, second.side)
    assert (second.id, 151.0, ACCOUNT) == (third.replaced_id, third.price, third.account_id)
    assert not any("/orders GET" in call or "GET /v2" in call for call in sandbox.counters()["api_calls"])


def test_an_order_is_cancelled_by_its_id_alone(client: AriesClient) -> None:
    """And reads cancelled afterwards, in the SDK's spelling."""
    placed = client.orders.place_order(*PLACE, account_id=ACCOUNT)

    assert ("cancelled", "") == (
        (cancelled := client.orders.cancel_order(placed.id)).status,
        cancelled.replaced_id,
    )
    assert ["cancelled"] == [order.status for order in client.accounts.get_orders(ACCOUNT)]


def test_an_order_of_another_process_is_found_in_the_lists(client: AriesClient, build: Build) -> None:
    """In whichever account it is."""
    placed = client.orders.place_order(*PLACE, account_id="TA-1002")
    other = build(CLIENT_ID, CLIENT_SECRET)

    assert ("cancelled", "TA-1002") == (
        (cancelled := other.orders.cancel_order(placed.id)).status,
        cancelled.account_id,
    )


def test_an_order_that_is_nowhere_is_a_404(client: AriesClient) -> None:
    """As the API would say."""
    with pytest.raises(AriesAPIError) as caught:
        client.orders.cancel_order("SBX-999999")

    assert 404 == caught.value.status_code


def test_an_update_changes_something(client: AriesClient) -> None:
    """Else nothing is sent."""
    with pytest.raises(ValueError, match=r"^nothing to change"):
        client.orders.update_order("SBX-000001")


def test_orders_are_selected_by_status(client: AriesClient) -> None:
    """Open ones, cancelled ones, filled ones, or all."""
    kept = client.orders.place_order(*PLACE, account_id=ACCOUNT)
    client.orders.cancel_order(client.orders.place_order(*PLACE, account_id=ACCOUNT).id)
    lists = {status: client.accounts.get_orders(ACCOUNT, status) for status in ("open", "cancelled", "filled")}

    assert {"open": 1, "cancelled": 1, "filled": 0} == {status: len(orders) for status, orders in lists.items()}
    assert kept.id == lists["open"][0].id
    with pytest.raises(ValueError, match=r"^status must be one of"):
        client.accounts.get_orders(ACCOUNT, "done")


def test_all_pages_of_orders_are_read(client: AriesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    monkeypatch.setattr("aries_exchange.accounts.PAGE", 2)
    placed = [client.orders.place_order(*PLACE, account_id=ACCOUNT).id for _ in range(5)]

    assert placed[::-1] == [order.id for order in client.accounts.get_orders(ACCOUNT)]


def test_balances_are_floats_in_snake_case(client: AriesClient) -> None:
    """Whatever the wire calls them."""
    expected = Balances(
        cash=25000.0,
        buying_power=25000.0,
        portfolio_value=40360.25,
        settled_cash=25000.0,
        unsettled_cash=0.0,
        stock_buying_power=25000.0,
        option_buying_power=25000.0,
        start_of_day_value=40360.25,
    )

    assert expected == client.accounts.get_balances(ACCOUNT)


def test_positions_are_a_list(client: AriesClient) -> None:
    """Symbol, quantity and worth of each."""
    positions = client.accounts.get_positions(ACCOUNT)

    assert [("AAPL", 40.0, 9124.0), ("MSFT", 15.0, 6236.25)] == [
        (each.symbol, each.quantity, each.market_value) for each in positions
    ]


@pytest.mark.parametrize("account_id", ["", "..", "a/b", "a?b", "a b", "x" * 51])
def test_an_account_id_leads_nowhere_else(sandbox: Sandbox, client: AriesClient, account_id: str) -> None:
    """It stands in the path."""
    for call in (client.accounts.get_balances, client.accounts.get_positions, client.accounts.get_orders):
        with pytest.raises(ValueError, match=r"^account_id must be"):
            call(account_id)

    assert 0 == sandbox.counters()["token_calls"]


@pytest.mark.parametrize("call", ["get_balances", "get_positions", "get_orders"])
def test_an_account_of_somebody_else_is_a_404(client: AriesClient, call: str) -> None:
    """As the API says."""
    with pytest.raises(AriesAPIError, match="404: no such account"):
        getattr(client.accounts, call)("TA-2001")
