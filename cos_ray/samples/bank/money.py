"""Money is counted in whole cents; here it is read from people and written for them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation


def money(cents: int) -> str:
    """Write an amount as people do: 2050 is `20.50`."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def cents(text: str) -> int:
    """Read an amount as people write it: `20.5` is 2050. Raises ValueError if it is none."""
    try:
        amount = Decimal(text) * 100
        whole = int(amount)
    except (InvalidOperation, OverflowError, ValueError):
        raise ValueError(f"{text!r} is not an amount of money such as 20.50") from None
    if whole != amount:
        raise ValueError(f"{text!r} has fractions of a cent")
    return whole
