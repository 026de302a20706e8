"""Orders as the SDK shows them: lower-case words and floats, named by `id` instead of `clOrdId`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from aries_exchange.fields import Body, amount, optional_amount, optional_text, text, texts

# What `status` of the list selects. The wire's words are those of FIX, in lower case; cancelled has two l here.
GROUPS: Final[Mapping[str, frozenset[str]]] = {
    "open": frozenset(
        {
            "pending_new",
            "new",
            "partially_filled",
            "done_for_day",
            "pending_cancel",
            "pending_replace",
            "stopped",
            "suspended",
            "calculated",
            "accepted_for_bid",
        }
    ),
    "filled": frozenset({"filled"}),
    "cancelled": frozenset({"cancelled"}),
}


@dataclass(frozen=True, slots=True)
class Order:
    """An order as Aries acknowledged or listed it; what a reply does not tell is empty or None.

    Attributes:
        id: names it in every other call; a replaced order goes on under a new one.
        status: new, filled, cancelled, rejected and others. A rejected order is an answer, and no exception.
        account_id: the account it is of.
        side, order_type, time_in_force: as given when it was placed.
        quantity, filled_quantity, remaining_quantity: of shares or contracts.
        price, stop_price, average_price: the limit, the stop, and what was paid on average.
        reject_reason: why it was rejected.
        replaced_id: the order that this one took the place of.
    """

    id: str
    status: str
    account_id: str = ""
    symbol: str = ""
    side: str = ""
    order_type: str = ""
    time_in_force: str = ""
    quantity: float | None = None
    filled_quantity: float | None = None
    remaining_quantity: float | None = None
    price: float | None = None
    stop_price: float | None = None
    average_price: float | None = None
    reject_reason: str = ""
    replaced_id: str = ""
    created_at: str = ""

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the order of an acknowledgement, or of an entry in a list."""
        status = (optional_text(body, "status") or text(body, "ordStatus")).lower()
        order_id, replaced_id = text(body, "clOrdId"), optional_text(body, "origClOrdId")
        return cls(
            order_id,
            "cancelled" if status == "canceled" else status,
            optional_text(body, "tradingAccountId") or optional_text(body, "accountId"),
            optional_text(body, "symbol"),
            optional_text(body, "side").lower(),
            optional_text(body, "type").lower(),
            optional_text(body, "timeInForce").lower(),
            optional_amount(body, "qty"),
            optional_amount(body, "cumQty"),
            optional_amount(body, "leavesQty"),
            _price(body, "price"),
            _price(body, "stopPrice"),
            _price(body, "avgPrice"),
            optional_text(body, "ordRejReason") or optional_text(body, "text"),
            # A cancelled order names itself there.
            "" if replaced_id == order_id else replaced_id,
            optional_text(body, "createdAt") or optional_text(body, "transactTime"),
        )


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would cost; None where Aries does not tell it.

    Attributes:
        estimated_cost, commission, fees: of the order.
        total: all three together.
        buying_power_impact: what it takes of the buying power.
        warnings, errors: what speaks against it; with errors it would be rejected.
    """

    estimated_cost: float
    commission: float
    fees: float
    total: float
    buying_power_impact: float | None
    warnings: tuple[str, ...]
    errors: tuple[str, ...]

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the preview of a reply."""
        cost = amount(body, "estimatedCost")
        commission, fees = (optional_amount(body, name) or 0.0 for name in ("commission", "fees"))
        return cls(
            cost,
            commission,
            fees,
            round(cost + commission + fees, 5),
            optional_amount(body, "buyingPowerImpact"),
            texts(body, "warnings"),
            texts(body, "errors"),
        )


def _price(body: Body, name: str) -> float | None:
    """Return a price; the wire writes 0 for none."""
    return optional_amount(body, name) or None
