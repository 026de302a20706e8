"""`client.accounts`: money, positions and orders of an account; amounts are floats, for show and not for books."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from aries_exchange import scopes
from aries_exchange.api import Api
from aries_exchange.errors import AriesAPIError
from aries_exchange.fields import Body, amount, items, optional_amount, optional_text, text
from aries_exchange.order import GROUPS, Order

MAX_PAGES: Final = 100
PAGE: Final = 500
_ACCOUNT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,50}")


@dataclass(frozen=True, slots=True)
class Balances:
    """An account's money; None where Aries does not tell it.

    Attributes:
        cash: in the account; negative on margin that was used.
        buying_power: what can be spent now, on everything.
        portfolio_value: cash and positions.
        settled_cash, unsettled_cash: of the cash, what has settled and what has not.
        stock_buying_power, option_buying_power: what can be spent on each.
        start_of_day_value: cash and positions when the day began.
        unrealized_pl: profit or loss of what is held.
    """

    cash: float
    buying_power: float
    portfolio_value: float
    settled_cash: float | None = None
    unsettled_cash: float | None = None
    stock_buying_power: float | None = None
    option_buying_power: float | None = None
    start_of_day_value: float | None = None
    unrealized_pl: float | None = None

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the balances of a reply, whose names have nothing to do with these."""
        optional = (
            "settledFunds",
            "unsettledFunds",
            "stockBuyingPower",
            "optionBuyingPower",
            "sodTtlEquity",
            "unrealizedPl",
        )
        return cls(
            amount(body, "cashBalance"),
            amount(body, "netBuyingPower"),
            amount(body, "balance"),
            *(optional_amount(body, name) for name in optional),
        )


@dataclass(frozen=True, slots=True)
class Position:
    """What an account holds of one symbol."""

    symbol: str
    quantity: float
    average_price: float | None = None
    price: float | None = None
    market_value: float | None = None
    cost_basis: float | None = None
    unrealized_pl: float | None = None
    security_type: str = ""

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the position of an entry in the list."""
        return cls(
            text(body, "symbol"),
            amount(body, "quantity"),
            optional_amount(body, "averagePrice"),
            optional_amount(body, "price"),
            optional_amount(body, "marketValue"),
            optional_amount(body, "costBasis"),
            optional_amount(body, "unrealizedPl"),
            optional_text(body, "securityType").lower(),
        )


class Accounts:
    """The calls about one account."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def get_balances(self, account_id: str) -> Balances:
        """Return the account's money.

        Raises:
            AriesAPIError: it was refused.
            ValueError: that is no account id.
        """
        return self._api.get(f"/v2/accounts/{_checked(account_id)}/balance", scopes.ACCOUNT, Balances.parse)

    def get_positions(self, account_id: str) -> list[Position]:
        """Return what the account holds.

        Raises:
            AriesAPIError: it was refused.
            ValueError: that is no account id.
        """
        return self._api.get(
            f"/v1/accounts/{_checked(account_id)}/positions",
            scopes.POSITION,
            lambda body: [Position.parse(entry) for entry in items(body, "positions")],
        )

    def get_orders(self, account_id: str, status: str | None = None) -> list[Order]:
        """Return the account's open orders and those that ended today, newest first.

        Args:
            account_id: of the account.
            status: `open`, `filled` or `cancelled`; None: all.

        Raises:
            AriesAPIError: it was refused.
            ValueError: that is no account id, or no such status.
        """
        if status is not None and status not in GROUPS:
            raise ValueError(f"status must be one of {', '.join(GROUPS)}")
        path = f"/v2/accounts/{_checked(account_id)}/orders"
        orders: list[Order] = []
        cursor = 0
        for _ in range(MAX_PAGES):
            page, cursor = self._api.get(path, scopes.ORDER, _parse_page, {"limit": PAGE, "cursor": cursor})
            orders += page
            if not cursor:
                return [order for order in orders if status is None or order.status in GROUPS[status]]
        raise AriesAPIError(200, "the list of orders does not end")


def _parse_page(body: Body) -> tuple[list[Order], int]:
    cursor = body.get("nextCursor") or 0
    if not isinstance(cursor, int):
        raise ValueError("nextCursor is no number")  # noqa: TRY004 - one error for every wrong reply
    return [Order.parse(entry) for entry in items(body, "orders")], cursor


def _checked(account_id: str) -> str:
    """Return an account id that can stand in a path and leads nowhere else."""
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise ValueError("account_id must be an account's id, as get_user_accounts lists it")
    return account_id
