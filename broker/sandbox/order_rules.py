"""What an order request must look like, in both generations that send an account id in the body."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from broker.sandbox.errors import ApiError

SIDES = frozenset({"BUY", "SELL", "SELL_SHORT", "BUY_TO_COVER"})
TYPES = frozenset({"MARKET", "LIMIT", "STOP", "STOP_LIMIT"})
TIMES_IN_FORCE = frozenset(
    {"DAY", "GTC", "IOC", "FOK", "EXTENDED_HOURS", "AT_THE_OPENING", "AT_THE_CLOSE", "EXT", "ATO", "ATC"},
)
_OPTION_TIMES_IN_FORCE = frozenset({"DAY", "GTC"})
_SYMBOL = re.compile(r"[A-Z0-9./ ]{1,21}")
_MAX_LEGS = 4
_MAX_DECIMALS = 5
_LEG_FIELDS = ("positionEffect", "ratioQty", "securityType", "side")

Fields = Mapping[str, Any]


def account_id(body: Fields) -> str:
    """Return the account id; `accountId` and `tradingAccountId` may both be sent, and then must agree.

    Raises:
        ApiError: 400.
    """
    check = _text(50)
    sent = {check(name, body[name]) for name in ("accountId", "tradingAccountId") if body.get(name) is not None}
    if len(sent) != 1:
        raise invalid("tradingAccountId", "one account id is required")
    return sent.pop()


def check_order(body: Fields) -> Fields:
    """Return the checked fields of an order to place or preview.

    Raises:
        ApiError: 400, naming the first field that is wrong.
    """
    for name in ("symbol", "side", "type", "qty", "timeInForce"):
        if body.get(name) is None:
            raise invalid(name, "required")
    checked = check_fields(body)
    check_prices(checked)
    return checked


def check_fields(body: Fields) -> Fields:
    """Return those fields of the request that describe the order, each checked alone; unknown ones are ignored.

    Raises:
        ApiError: 400, naming the first field that is wrong.
    """
    return {name: check(name, body[name]) for name, check in _CHECKS.items() if body.get(name) is not None}


def check_prices(order: Fields) -> None:
    """Check what the fields of a whole order need of each other.

    Raises:
        ApiError: 400.
    """
    if order["type"] in {"LIMIT", "STOP_LIMIT"} and "price" not in order:
        raise invalid("price", f"required for {order['type']}")
    if order["type"] in {"STOP", "STOP_LIMIT"} and "stopPrice" not in order:
        raise invalid("stopPrice", f"required for {order['type']}")
    if order.get("legs") and order["timeInForce"] not in _OPTION_TIMES_IN_FORCE:
        raise invalid("timeInForce", "options allow only DAY and GTC")


def invalid(name: str, expected: str) -> ApiError:
    """Return the error for a wrong field."""
    return ApiError(400, "INVALID_FIELD", f"{name}: {expected}", field=name)


def _text(most: int) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= most:
            raise invalid(name, f"a string of 1 to {most}")
        return value

    return check


def _one_of(values: frozenset[str]) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in values:
            raise invalid(name, f"one of {', '.join(sorted(values))}")
        return value

    return check


def _symbol(name: str, value: object) -> str:
    if not isinstance(value, str) or not _SYMBOL.fullmatch(value):
        raise invalid(name, "an upper-case symbol of 1 to 21")
    return value


def _decimal(name: str, value: object) -> str:
    try:
        number = Decimal(value) if isinstance(value, str) else Decimal("NaN")
    except InvalidOperation as error:
        raise invalid(name, "a decimal string") from error
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or number <= 0 or -exponent > _MAX_DECIMALS:
        raise invalid(name, "a positive decimal string with at most 5 decimals")
    return str(value)


def _legs(name: str, value: object) -> list[Fields]:
    if not isinstance(value, list) or len(value) > _MAX_LEGS:
        raise invalid(name, "at most 4 legs")
    for leg in value:
        if not isinstance(leg, Mapping) or any(not isinstance(leg.get(field), str) for field in _LEG_FIELDS):
            raise invalid(name, f"each leg has {', '.join(_LEG_FIELDS)}")
    return value


_CHECKS: Mapping[str, Callable[[str, object], Any]] = {
    "symbol": _symbol,
    "side": _one_of(SIDES),
    "type": _one_of(TYPES),
    "qty": _decimal,
    "timeInForce": _one_of(TIMES_IN_FORCE),
    "price": _decimal,
    "stopPrice": _decimal,
    "clientId": _text(50),
    "currency": _text(3),
    "exDestination": _text(20),
    "legs": _legs,
}
