"""Orders: what is accepted, what is refused, what becomes of them."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.sandbox.requests import bearer
from tests.support.sandbox import FakeClock, SandboxDriver

ORDER = {
    "tradingAccountId": "TA-1001",
    "symbol": "AAPL",
    "side": "BUY",
    "type": "LIMIT",
    "qty": "10",
    "price": "200.00",
    "timeInForce": "DAY",
}
LEG = {"positionEffect": "OPEN", "ratioQty": "1", "securityType": "OPT", "side": "BUY", "putCall": "CALL"}


async def post(sandbox: SandboxDriver, path: str, body: dict[str, Any]) -> httpx2.Response:
    """Send an order request with a token that may trade."""
    return await sandbox.http.post(path, json=body, headers=await bearer(sandbox))


async def listed(sandbox: SandboxDriver, path: str = "/v2/accounts/TA-1001/orders") -> dict[str, Any]:
    """Return a list of orders."""
    answer: dict[str, Any] = (await sandbox.http.get(path, headers=await bearer(sandbox))).json()
    return answer


@pytest.mark.parametrize(
    "account",
    [
        {"tradingAccountId": "TA-1001"},
        {"accountId": "TA-1001"},
        {"accountId": "501"},
        {"accountId": "TA-1001", "tradingAccountId": "TA-1001"},
    ],
)
async def test_both_generations_place(sandbox: SandboxDriver, account: dict[str, str]) -> None:
    """An order names its account as accountId, as tradingAccountId, or both; it rests as NEW."""
    body = {name: value for name, value in ORDER.items() if name != "tradingAccountId"} | account
    reply = (await post(sandbox, "/v1/orders", body)).json()
    assert (True, "NEW", "10", "0", "10") == (
        reply["success"],
        reply["status"],
        reply["qty"],
        reply["cumQty"],
        reply["leavesQty"],
    )
    assert [reply["clOrdId"]] == [order["clOrdId"] for order in (await listed(sandbox))["orders"]]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"symbol": None}, "symbol"),
        ({"symbol": "aapl"}, "symbol"),
        ({"symbol": "A" * 22}, "symbol"),
        ({"side": "buy"}, "side"),
        ({"type": "MARKT"}, "type"),
        ({"qty": 10}, "qty"),
        ({"qty": "-1"}, "qty"),
        ({"qty": "ten"}, "qty"),
        ({"qty": "Infinity"}, "qty"),
        ({"price": "1.123456"}, "price"),
        ({"price": None}, "price"),
        ({"type": "STOP"}, "stopPrice"),
        ({"type": "STOP_LIMIT", "price": None, "stopPrice": "1"}, "price"),
        ({"timeInForce": "FOREVER"}, "timeInForce"),
        ({"timeInForce": "IOC", "legs": [LEG]}, "timeInForce"),
        ({"legs": [LEG] * 5}, "legs"),
        ({"legs": [{}]}, "legs"),
        ({"clientId": "c" * 51}, "clientId"),
        ({"currency": "DOLLARS"}, "currency"),
        ({"tradingAccountId": None}, "tradingAccountId"),
        ({"accountId": "TA-1002"}, "tradingAccountId"),
        ({"accountId": ["TA-1001"]}, "accountId"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/orders", "/v1/orders/preview"])
async def test_wrong_orders_are_400_and_name_the_field(
    sandbox: SandboxDriver,
    path: str,
    changes: dict[str, Any],
    field: str,
) -> None:
    """A wrong field is a nested VALIDATION error that names it."""
    response = await post(sandbox, path, {**ORDER, **changes})
    error = response.json()["error"]
    assert (400, "VALIDATION", {"field": field}) == (response.status_code, error["type"], error["details"])


@pytest.mark.parametrize("body", [b"{", b"[]"])
async def test_a_body_that_is_no_object_is_400(sandbox: SandboxDriver, body: bytes) -> None:
    """An order must be a JSON object."""
    response = await sandbox.http.post("/v1/orders", content=body, headers=await bearer(sandbox))
    assert (400, "MALFORMED_JSON") == (response.status_code, response.json()["error"]["code"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"qty": "1000"}, "INSUFFICIENT_BUYING_POWER"),
        ({"side": "SELL", "qty": "41"}, "INSUFFICIENT_POSITION"),
    ],
)
async def test_the_market_rejects_with_200(sandbox: SandboxDriver, changes: dict[str, str], reason: str) -> None:
    """An order beyond the account's means is a 200 with status REJECTED."""
    response = await post(sandbox, "/v1/orders", {**ORDER, **changes})
    reply = response.json()
    assert (200, False, "REJECTED", reason) == (
        response.status_code,
        reply["success"],
        reply["status"],
        reply["ordRejReason"],
    )


async def test_replace_gives_a_new_id_and_frees_the_old_order(sandbox: SandboxDriver) -> None:
    """A replaced order has a new id, points at the old one, and the old one no longer ties up money."""
    placed = (await post(sandbox, "/v1/orders", {**ORDER, "qty": "100"})).json()
    change = {"origClOrdId": placed["clOrdId"], "tradingAccountId": "TA-1001", "symbol": "AAPL", "price": "210"}
    replaced = (await post(sandbox, "/v1/orders/replace", change)).json()
    assert (True, "NEW", "210") == (replaced["success"], replaced["status"], replaced["price"])
    assert [(replaced["clOrdId"], "NEW"), (placed["clOrdId"], "REPLACED")] == [
        (order["clOrdId"], order["ordStatus"]) for order in (await listed(sandbox))["orders"]
    ]
    balance = await listed(sandbox, "/v1/accounts/501/balances")
    assert "4000.00" == balance["netBuyingPower"]


async def test_cancel_is_final(sandbox: SandboxDriver) -> None:
    """A cancelled order is CANCELED, and cannot be cancelled or replaced again."""
    placed = (await post(sandbox, "/v1/orders", ORDER)).json()
    body = {"origClOrdId": placed["clOrdId"], "accountId": "501", "symbol": "AAPL", "side": "BUY"}
    cancelled = (await post(sandbox, "/v1/orders/cancel", body)).json()
    again = [await post(sandbox, path, body) for path in ("/v1/orders/cancel", "/v1/orders/replace")]
    assert (True, "CANCELED") == (cancelled["success"], cancelled["status"])
    assert [(400, "ORDER_NOT_OPEN")] * 2 == [(answer.status_code, answer.json()["error"]["code"]) for answer in again]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"origClOrdId": "SBX-999999"}, 404),
        ({"tradingAccountId": "TA-1002"}, 404),
        ({"symbol": "MSFT"}, 400),
        ({"side": "SELL"}, 400),
        ({"side": ["BUY"]}, 400),
        ({"origClOrdId": None}, 400),
    ],
)
async def test_cancel_must_name_the_order_as_it_is(
    sandbox: SandboxDriver,
    changes: dict[str, object],
    status: int,
) -> None:
    """Cancel wants the id, the account, the symbol and, if sent, the side of the order."""
    placed = (await post(sandbox, "/v1/orders", ORDER)).json()
    body = {
        "origClOrdId": placed["clOrdId"],
        "tradingAccountId": "TA-1001",
        "symbol": "AAPL",
        "side": "BUY",
    }
    assert status == (await post(sandbox, "/v1/orders/cancel", {**body, **changes})).status_code


async def test_preview_places_nothing(sandbox: SandboxDriver) -> None:
    """A preview tells the cost and leaves no order."""
    reply = (await post(sandbox, "/v1/orders/preview", ORDER)).json()
    assert ("2000.00", []) == (reply["estimatedCost"], reply["errors"])
    assert [] == (await listed(sandbox))["orders"]


async def test_lists_come_in_pages(sandbox: SandboxDriver) -> None:
    """A list goes on at its nextCursor, and 0 ends it."""
    ids = [(await post(sandbox, "/v1/orders", {**ORDER, "qty": "1"})).json()["clOrdId"] for _ in range(3)]
    first = await listed(sandbox, "/v2/accounts/TA-1001/orders?limit=2")
    second = await listed(sandbox, f"/v2/accounts/TA-1001/orders?limit=2&cursor={first['nextCursor']}")
    assert ids[::-1] == [order["clOrdId"] for order in first["orders"] + second["orders"]]
    assert 0 == second["nextCursor"]
    assert 1 == len((await listed(sandbox, "/v1/accounts/501/orders?limit=1"))["orders"])


async def test_finished_orders_leave_the_active_list_next_day(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """Active orders are the open ones and today's finished ones; history has them all."""
    placed = (await post(sandbox, "/v1/orders", ORDER)).json()
    body = {"origClOrdId": placed["clOrdId"], "accountId": "501", "symbol": "AAPL"}
    await post(sandbox, "/v1/orders/cancel", body)
    today = await listed(sandbox)
    clock.advance(86_400)
    assert (1, 0) == (len(today["orders"]), len((await listed(sandbox))["orders"]))
    history = await listed(sandbox, "/v2/accounts/TA-1001/orders/history?from=2027-01-15T00:00:00Z&exclude_today=true")
    assert [placed["clOrdId"]] == [order["clOrdId"] for order in history["orders"]]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "from=yesterday",
        "from=2027-01-01T00:00:00",
        "from=2026-01-01T00:00:00Z",
        "from=2027-01-01T00:00:00Z&order_by=up",
    ],
)
async def test_a_bad_history_window_is_a_flat_400(sandbox: SandboxDriver, query: str) -> None:
    """History needs a zoned `from` no more than 90 days back; its refusal is flat."""
    path = f"/v2/accounts/TA-1001/orders/history?{query}"
    response = await sandbox.http.get(path, headers=await bearer(sandbox))
    assert (400, str) == (response.status_code, type(response.json()["error"]))


@pytest.mark.parametrize("query", ["limit=501", "limit=-1", "limit=x", "cursor=-1"])
async def test_bad_paging_is_400(sandbox: SandboxDriver, query: str) -> None:
    """A limit is at most 500, a cursor no less than 0."""
    path = f"/v2/accounts/TA-1001/orders?{query}"
    assert 400 == (await sandbox.http.get(path, headers=await bearer(sandbox))).status_code
