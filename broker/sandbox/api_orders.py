"""`POST /v1/orders` and its siblings cancel, replace and preview."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.sandbox.api_access import visible_account
from broker.sandbox.errors import ApiError
from broker.sandbox.order_book import add_order, cost, finish, quantities, reject_reason, wire_time
from broker.sandbox.order_rules import account_id, check_fields, check_order, check_prices, invalid
from broker.sandbox.parsing import parsed_json
from broker.sandbox.state import AccessToken, Order, State


async def place(request: Request, state: State, access: AccessToken) -> Response:
    """Place an order; the reply is an acknowledgement, and a rejection of the market is one too."""
    body = await _body(request)
    fields = check_order(body)
    account = visible_account(state, access, account_id(body))
    order = add_order(state, account, fields, access.client_id)
    return JSONResponse(
        {
            "success": order.status == "NEW",
            "clOrdId": order.cl_ord_id,
            "status": order.status,
            "symbol": fields["symbol"],
            "side": fields["side"],
            "qty": fields["qty"],
            "text": "" if order.reject_reason is None else "order rejected",
            "ordRejReason": order.reject_reason or "",
            "transactTime": wire_time(order.created_at),
            **quantities(order),
        },
    )


async def cancel(request: Request, state: State, access: AccessToken) -> Response:
    """Cancel an open order; `side` may be left out, as the older generation does."""
    body = await _body(request)
    order = _open_order(state, access, body)
    if body.get("side") is not None and body["side"] != order.fields["side"]:
        raise invalid("side", "not that of the order")
    finish(state, order, "CANCELED")
    return JSONResponse(
        {
            "success": True,
            "clOrdId": order.cl_ord_id,
            "origClOrdId": order.cl_ord_id,
            "status": order.status,
            "text": "",
        },
    )


async def replace(request: Request, state: State, access: AccessToken) -> Response:
    """Replace an open order by one with the fields sent changed, under a new id."""
    body = await _body(request)
    original = _open_order(state, access, body)
    fields = {**original.fields, **check_fields(body)}
    check_prices(fields)
    order = add_order(state, original.account, fields, access.client_id, replaces=original)
    return JSONResponse(
        {
            "success": order.status == "NEW",
            "clOrdId": order.cl_ord_id,
            "origClOrdId": original.cl_ord_id,
            "status": order.status,
            "qty": fields["qty"],
            "price": fields.get("price", "0"),
            "text": order.reject_reason or "",
            "transactTime": wire_time(order.created_at),
        },
    )


async def preview(request: Request, state: State, access: AccessToken) -> Response:
    """Tell what an order would cost, and why it would be rejected."""
    body = await _body(request)
    fields = check_order(body)
    account = visible_account(state, access, account_id(body))
    estimated = f"{cost(account, fields):.2f}"
    reason = reject_reason(state, account, fields)
    return JSONResponse(
        {
            "estimatedCost": estimated,
            "commission": "0.00",
            "fees": "0.00",
            "buyingPowerImpact": estimated if fields["side"] == "BUY" else "0.00",
            "estimatedMargin": "0.00",
            "optionFees": "0.00",
            "optionPremium": "0.00",
            "optionRequirement": "0.00",
            "numDayTrades": 0,
            "warnRuleId": "",
            "warnings": [],
            "errors": [reason] if reason else [],
        },
    )


def _open_order(state: State, access: AccessToken, body: Mapping[str, Any]) -> Order:
    """Return the open order that the body names, whose account and symbol it must name too."""
    for name in ("origClOrdId", "symbol"):
        if not isinstance(body.get(name), str):
            raise invalid(name, "required")
    account = visible_account(state, access, account_id(body))
    order = state.orders.get(body["origClOrdId"])
    if order is None or order.account is not account:
        raise ApiError(404, "ORDER_NOT_FOUND", "no such order", field="origClOrdId")
    if body["symbol"] != order.fields["symbol"]:
        raise invalid("symbol", "not that of the order")
    if order.status != "NEW":
        raise ApiError(400, "ORDER_NOT_OPEN", f"the order is {order.status}", field="origClOrdId")
    return order


async def _body(request: Request) -> Mapping[str, Any]:
    try:
        body = parsed_json(await request.body())
    except ValueError as error:
        raise ApiError(400, "MALFORMED_JSON", "the body is not JSON") from error
    if not isinstance(body, dict):
        raise ApiError(400, "MALFORMED_JSON", "the body is not an object")
    return body
