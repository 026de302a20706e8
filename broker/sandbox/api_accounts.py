"""`/v1/accounts/{id}/…` and `/v2/accounts/{id}/…`: balance, positions, lists of orders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.sandbox.api_access import account_in_path
from broker.sandbox.config import AccountSeed
from broker.sandbox.errors import ApiError, Shape, error_response
from broker.sandbox.order_book import buying_power, order_json
from broker.sandbox.state import AccessToken, Order, State

HISTORY = timedelta(days=90)
_CREATED = "2026-01-05T14:30:00Z"
_MAX_LIMIT = 500


async def balance(request: Request, state: State, access: AccessToken) -> Response:
    """Return the account's money; amounts are decimal strings."""
    account = account_in_path(request, state, access)
    value = sum((position.quantity * position.price for position in account.positions), Decimal(0))
    power = _amount(buying_power(state, account))
    return JSONResponse(
        {
            "accountId": account.trading_account_id,
            "cashBalance": _amount(account.cash),
            "settledFunds": _amount(account.cash),
            "unsettledFunds": _amount(Decimal(0)),
            "balance": _amount(account.cash + value),
            "netBuyingPower": power,
            "stockBuyingPower": power,
            "optionBuyingPower": power,
            "sodTtlEquity": _amount(account.cash + value),
            "sodPositionsMarketValue": _amount(value),
            "pendingOrdersCount": sum(order.status == "NEW" for order in state.orders_of(account)),
            "pdt": "0",
        },
    )


async def positions(request: Request, state: State, access: AccessToken) -> Response:
    """Return what the account holds."""
    account = account_in_path(request, state, access)
    return JSONResponse({"positions": _positions(account)})


async def orders_v1(request: Request, state: State, access: AccessToken) -> Response:
    """Return the account's newest orders, at most `limit`."""
    orders = state.orders_of(account_in_path(request, state, access))
    limit = _whole(request, "limit", 50)
    return JSONResponse({"orders": [order_json(order) for order in orders[:limit]]})


async def orders_v2(request: Request, state: State, access: AccessToken) -> Response:
    """Return open orders and today's finished ones, page by page."""
    today = _midnight(state)
    orders = [
        order
        for order in state.orders_of(account_in_path(request, state, access))
        if order.status == "NEW" or order.updated_at >= today
    ]
    return _page(request, orders)


async def order_history(request: Request, state: State, access: AccessToken) -> Response:
    """Return the orders of a window of at most 90 days; a bad window is a flat 400."""
    account = account_in_path(request, state, access)
    try:
        orders = _in_window(request, state, account)
    except ApiError as error:
        return error_response(error, Shape.FLAT)
    return _page(request, orders)


def _in_window(request: Request, state: State, account: AccountSeed) -> list[Order]:
    start = _time(request, "from", None)
    end = _time(request, "to", datetime.fromtimestamp(state.now(), UTC))
    order_by = request.query_params.get("order_by", "desc").lower()
    if order_by not in {"asc", "desc"}:
        raise _invalid("order_by", "asc or desc")
    if not start <= end <= start + HISTORY:
        raise _invalid("from", "a window of at most 90 days")
    last = end.timestamp()
    if request.query_params.get("exclude_today") == "true":
        last = min(last, _midnight(state) - 1)
    orders = [order for order in state.orders_of(account) if start.timestamp() <= order.created_at <= last]
    return orders if order_by == "desc" else orders[::-1]


def _page(request: Request, orders: list[Order]) -> Response:
    limit, cursor = _whole(request, "limit", 50), _whole(request, "cursor", 0, most=2**63)
    following = cursor + limit
    return JSONResponse(
        {
            "orders": [order_json(order) for order in orders[cursor:following]],
            "nextCursor": following if following < len(orders) else 0,
        },
    )


def _whole(request: Request, name: str, default: int, most: int = _MAX_LIMIT) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise _invalid(name, f"a whole number up to {most}")
    return int(text)


def _time(request: Request, name: str, default: datetime | None) -> datetime:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError as error:
        raise _invalid(name, "an RFC 3339 time") from error
    if parsed.tzinfo is None:
        raise _invalid(name, "an RFC 3339 time with its zone")
    return parsed


def _midnight(state: State) -> float:
    today = datetime.fromtimestamp(state.now(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today.timestamp()


def _positions(account: AccountSeed) -> list[dict[str, Any]]:
    return [
        {
            "accountId": account.trading_account_id,
            "symbol": position.symbol,
            "securityType": "EQUITY",
            "quantity": str(position.quantity),
            "averagePrice": _amount(position.average_price),
            "price": _amount(position.price),
            "costBasis": _amount(position.quantity * position.average_price),
            "marketValue": _amount(position.quantity * position.price),
            "unrealizedPl": _amount(position.quantity * (position.price - position.average_price)),
            "todayPl": _amount(Decimal(0)),
            "todayRealizedPnL": _amount(Decimal(0)),
            "createdAt": _CREATED,
        }
        for position in account.positions
    ]


def _amount(value: Decimal) -> str:
    return f"{value:.2f}"


def _invalid(name: str, expected: str) -> ApiError:
    return ApiError(400, "INVALID_PARAMETER", f"{name}: {expected}", field=name)
