"""Quantities and prices: numbers to the app, decimal strings on the wire."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

MAX_DECIMALS: Final = 5
_STEP: Final = Decimal(1).scaleb(-MAX_DECIMALS)
_NOISE: Final = Decimal("1e-9")
"""What arithmetic in binary adds to a number, relative to it; 0.1 + 0.2 is 0.30000000000000004."""
MAX_AMOUNT: Final = Decimal(10) ** 15

Amount = int | float | Decimal | str


def build_amount(name: str, value: Amount) -> str:
    """Return a positive number as the wire writes it: no exponent, no noise, at most 5 decimals.

    Raises:
        ValueError: it is none, or to round it would make another amount of it.
        TypeError: it is a truth value.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} is a number, not a truth value")
    try:
        exact = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{name} must be a number") from None
    if not exact.is_finite() or not 0 < exact < MAX_AMOUNT:
        raise ValueError(f"{name} must be a positive number below {MAX_AMOUNT:f}")
    rounded = exact.quantize(_STEP)
    tolerated = abs(exact) * _NOISE if isinstance(value, float) else Decimal(0)
    if rounded <= 0 or abs(rounded - exact) > tolerated:
        raise ValueError(f"{name} must have at most {MAX_DECIMALS} decimals")
    whole, _, decimals = f"{rounded:f}".partition(".")
    return f"{whole}.{kept}" if (kept := decimals.rstrip("0")) else whole
