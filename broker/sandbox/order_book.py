"""Orders at rest, what they tie up, and how they look on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from broker.sandbox.config import AccountSeed
from broker.sandbox.state import Order, State

# What a symbol is worth of which nobody holds any.
UNKNOWN_PRICE = Decimal(100)
_LEG_WORDS = {"O": "OPEN", "C": "CLOSE", "B": "BUY", "S": "SELL", "P": "PUT", "CS": "EQUITY", "OPT": "OPTION"}
_TIME_WORDS = {"EXT": "EXTENDED_HOURS", "ATO": "AT_THE_OPENING", "ATC": "AT_THE_CLOSE"}


def cost(account: AccountSeed, fields: Mapping[str, Any]) -> Decimal:
    """Return what the order is worth: at its limit or stop price, else at the last price."""
    last_price = next(
        (position.price for position in account.positions if position.symbol == fields["symbol"]),
        UNKNOWN_PRICE,
    )
    price = fields.get("price") or fields.get("stopPrice") or last_price
    return Decimal(fields["qty"]) * Decimal(price)


def buying_power(state: State, account: AccountSeed) -> Decimal:
    """Return the account's cash less what its open orders to buy tie up."""
    tied = (
        cost(account, order.fields)
        for order in state.orders_of(account)
        if order.status == "NEW" and order.fields["side"] == "BUY"
    )
    return account.cash - sum(tied, Decimal(0))


def reject_reason(state: State, account: AccountSeed, fields: Mapping[str, Any]) -> str | None:
    """Return why the market side refuses this order, if it does; Aries then answers 200 with `REJECTED`."""
    if fields.get("legs"):
        return None
    if fields["side"] == "BUY" and cost(account, fields) > buying_power(state, account):
        return "INSUFFICIENT_BUYING_POWER"
    held = sum((position.quantity for position in account.positions if position.symbol == fields["symbol"]), Decimal(0))
    if fields["side"] == "SELL" and Decimal(fields["qty"]) > held:
        return "INSUFFICIENT_POSITION"
    return None


def add_order(
    state: State,
    account: AccountSeed,
    fields: Mapping[str, Any],
    submitted_by: str,
    *,
    replaces: Order | None = None,
) -> Order:
    """Enter an order: at rest as `NEW`, or `REJECTED`; the order it replaces is taken out of the book first."""
    now = state.now()
    if replaces is not None:
        finish(state, replaces, "REPLACED")
    reason = reject_reason(state, account, fields)
    order = Order(
        cl_ord_id=f"SBX-{len(state.orders) + 1:06d}",
        account=account,
        submitted_by=submitted_by,
        fields=fields,
        status="REJECTED" if reason else "NEW",
        created_at=now,
        updated_at=now,
        orig_cl_ord_id=replaces.cl_ord_id if replaces else None,
        reject_reason=reason,
    )
    state.orders[order.cl_ord_id] = order
    return order


def finish(state: State, order: Order, status: str) -> None:
    """Take the order out of the book, for this reason."""
    order.status = status
    order.updated_at = state.now()


def wire_time(seconds: float) -> str:
    """Return this time as Aries writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def order_json(order: Order) -> dict[str, Any]:
    """Return the order as lists show it."""
    fields = order.fields
    legs = fields.get("legs") or []
    shown = {
        "accountId": order.account.trading_account_id,
        "clOrdId": order.cl_ord_id,
        "origClOrdId": order.orig_cl_ord_id,
        "ordId": f"X{order.cl_ord_id}",
        "clientId": fields.get("clientId", order.submitted_by),
        "symbol": fields["symbol"],
        "securityType": "OPTION" if legs else "EQUITY",
        "category": ("EQUITY", "SINGLE_LEG", "MULTI_LEG")[min(len(legs), 2)],
        "side": fields["side"],
        "type": fields["type"],
        "timeInForce": _TIME_WORDS.get(fields["timeInForce"], fields["timeInForce"]),
        "qty": fields["qty"],
        "price": fields.get("price", "0"),
        "stopPrice": fields.get("stopPrice", "0"),
        "currency": fields.get("currency", "USD"),
        "ordStatus": order.status,
        "ordRejReason": order.reject_reason,
        "legs": [_leg_json(leg, fields["symbol"]) for leg in legs] or None,
        "createdAt": wire_time(order.created_at),
        "updatedAt": wire_time(order.updated_at),
        **quantities(order),
    }
    return {name: value for name, value in shown.items() if value is not None}


def quantities(order: Order) -> dict[str, str]:
    """Return how much was filled (nothing, there being no market) and how much is open."""
    return {"cumQty": "0", "leavesQty": order.fields["qty"] if order.status == "NEW" else "0", "avgPrice": "0"}


def _leg_json(leg: Mapping[str, Any], underlying: str) -> dict[str, Any]:
    put_call = "CALL" if leg.get("putCall") in {"C", "CALL"} else "PUT"
    return {
        "symbol": leg.get("symbol", underlying),
        "securityType": _LEG_WORDS.get(leg["securityType"], leg["securityType"]),
        "side": _LEG_WORDS.get(leg["side"], leg["side"]),
        "positionEffect": _LEG_WORDS.get(leg["positionEffect"], leg["positionEffect"]),
        "ratioQty": leg["ratioQty"],
        "putCall": put_call,
        "strikePrice": str(leg.get("strikePrice", "0")),
        "maturity": str(leg.get("maturity", "")),
    }
