"""`client.orders`: place, update, cancel and preview. What changes an order is never sent twice by itself."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from aries_exchange import scopes
from aries_exchange.accounts import Accounts
from aries_exchange.amounts import Amount, build_amount
from aries_exchange.api import Api
from aries_exchange.errors import AriesAPIError
from aries_exchange.order import Order, Preview
from aries_exchange.users import Users

SIDES: Final = ("buy", "sell", "sell_short", "buy_to_cover")
TYPES: Final = ("market", "limit", "stop", "stop_limit")
TIMES_IN_FORCE: Final = ("day", "gtc", "ioc", "fok", "extended_hours", "at_the_opening", "at_the_close")
MAX_PLACED: Final = 10_000
"""Orders whose account, symbol and side are remembered; those of others are found in the lists."""
_SYMBOL: Final = re.compile(r"[A-Z0-9./ ]{1,21}")


@dataclass(frozen=True, slots=True)
class _Place:
    """What the wire wants to hear of an order besides its id."""

    account_id: str
    symbol: str
    side: str


class Orders:
    """The calls about orders."""

    def __init__(self, api: Api, users: Users, accounts: Accounts) -> None:
        self._api = api
        self._users = users
        self._accounts = accounts
        self._lock = threading.Lock()
        self._placed: OrderedDict[str, _Place] = OrderedDict()

    def place_order(  # noqa: PLR0913 - the documented parameters, in their order
        self,
        symbol: str,
        quantity: Amount,
        side: str,
        order_type: str,
        time_in_force: str,
        price: Amount | None = None,
        stop_price: Amount | None = None,
        *,
        account_id: str | None = None,
    ) -> Order:
        """Place an order and return what Aries acknowledged; it may be rejected, or filled later.

        Args:
            symbol: what to trade.
            quantity: how much of it.
            side: buy, sell, sell_short or buy_to_cover.
            order_type: market, limit, stop or stop_limit.
            time_in_force: day, gtc, ioc, fok, extended_hours, at_the_opening or at_the_close.
            price: the limit, at most 5 decimals.
            stop_price: the stop, at most 5 decimals.
            account_id: the account; may be left out by who has exactly one open account, which is then looked up.

        Raises:
            AriesAPIError: it was refused, or nothing is known of it: AriesConnectionError says whether it was sent.
            ValueError: an argument cannot be right, or the account has to be named.
        """
        fields = _build_order(symbol, quantity, side, order_type, time_in_force, price, stop_price)
        account_id = account_id or self._only_account()
        order = self._send("/v1/orders", {"tradingAccountId": account_id, **fields})
        self._remember(order.id, _Place(account_id, fields["symbol"], fields["side"]))
        return order

    def update_order(
        self,
        order_id: str,
        quantity: Amount | None = None,
        price: Amount | None = None,
        stop_price: Amount | None = None,
    ) -> Order:
        """Replace an open order by one with these changes, and return that one; it has an id of its own.

        Raises:
            AriesAPIError: it was refused; 404 where there is no such order.
            ValueError: nothing is to change, or an argument cannot be right.
        """
        given = (("qty", "quantity", quantity), ("price", "price", price), ("stopPrice", "stop_price", stop_price))
        changes = {field: build_amount(name, value) for field, name, value in given if value is not None}
        if not changes:
            raise ValueError("nothing to change: give a quantity, a price or a stop price")
        place = self._find(order_id)
        body = {"origClOrdId": order_id, "tradingAccountId": place.account_id, "symbol": place.symbol, **changes}
        order = self._send("/v1/orders/replace", body)
        self._remember(order.id, place)
        return replace(order, side=place.side.lower())

    def cancel_order(self, order_id: str) -> Order:
        """Cancel an open order and return it.

        Raises:
            AriesAPIError: it was refused; 404 where there is no such order.
        """
        place = self._find(order_id)
        body = {
            "origClOrdId": order_id,
            "tradingAccountId": place.account_id,
            "symbol": place.symbol,
            "side": place.side,
        }
        return self._send("/v1/orders/cancel", body)

    def preview_order(  # noqa: PLR0913 - as of `place_order`
        self,
        symbol: str,
        quantity: Amount,
        side: str,
        order_type: str,
        time_in_force: str,
        price: Amount | None = None,
        stop_price: Amount | None = None,
        *,
        account_id: str | None = None,
    ) -> Preview:
        """Return what an order would cost, arguments as of `place_order`; nothing is placed.

        Raises:
            AriesAPIError: it was refused.
            ValueError: an argument cannot be right, or the account has to be named.
        """
        fields = _build_order(symbol, quantity, side, order_type, time_in_force, price, stop_price)
        body = {"tradingAccountId": account_id or self._only_account(), **fields}
        return self._api.post("/v1/orders/preview", scopes.EXECUTION, Preview.parse, body, changes=False)

    def _send(self, path: str, body: Mapping[str, str]) -> Order:
        """Send what changes an order; replies leave out some of what they were asked with."""
        return self._api.post(path, scopes.EXECUTION, lambda answered: Order.parse({**body, **answered}), body)

    def _only_account(self) -> str:
        """Return the id of the only open account; asked anew each time, since the client may act for another by now."""
        open_accounts = [account.id for account in self._users.get_user_accounts() if account.status == "OPEN"]
        if len(open_accounts) != 1:
            raise ValueError(f"{len(open_accounts)} accounts are open: name one by account_id=")
        return open_accounts[0]

    def _find(self, order_id: str) -> _Place:
        """Return what is known of an order of ours, else what the accounts' lists say.

        Raises:
            AriesAPIError: 404, it is in none of them.
        """
        with self._lock:
            known = self._placed.get(order_id)
        if known is not None:
            return known
        for account in self._users.get_user_accounts():
            for order in self._accounts.get_orders(account.id):
                if order.id == order_id:
                    return _Place(account.id, order.symbol, order.side.upper())
        raise AriesAPIError(404, "no such order, open or of today, in any of the accounts")

    def _remember(self, order_id: str, place: _Place) -> None:
        with self._lock:
            self._placed[order_id] = place
            while len(self._placed) > MAX_PLACED:
                self._placed.popitem(last=False)


def _build_order(  # noqa: PLR0913 - as of `place_order`
    symbol: str,
    quantity: Amount,
    side: str,
    order_type: str,
    time_in_force: str,
    price: Amount | None,
    stop_price: Amount | None,
) -> dict[str, str]:
    """Return the fields of an order on the wire.

    Raises:
        ValueError: one cannot be right.
    """
    symbol = symbol.upper()
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError("symbol must be one, such as AAPL")
    fields = {
        "symbol": symbol,
        "side": _word("side", side, SIDES),
        "type": _word("order_type", order_type, TYPES),
        "timeInForce": _word("time_in_force", time_in_force, TIMES_IN_FORCE),
        "qty": build_amount("quantity", quantity),
    }
    amounts: Mapping[str, tuple[Amount | None, bool]] = {
        "price": (price, "LIMIT" in fields["type"]),
        "stopPrice": (stop_price, "STOP" in fields["type"]),
    }
    for name, (value, needed) in amounts.items():
        argument = "price" if name == "price" else "stop_price"
        # A price that the type does not use would be ignored, and the order traded at any price.
        if needed != (value is not None):
            raise ValueError(f"{argument} is {'needed' if needed else 'not used'} by an order of type {order_type}")
        if value is not None:
            fields[name] = build_amount(argument, value)
    return fields


def _word(name: str, given: str, known: tuple[str, ...]) -> str:
    if given.lower() not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}")
    return given.upper()
