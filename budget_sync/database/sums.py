"""Exact sums over many budgets, which may exceed 64 bits. SQLite's SUM raises an error on overflow.

Each sum is taken in two parts: the upper and the lower bits of the amounts. Both parts stay far
below any limit. A shift rounds down and its remainder is never negative, so the parts of negative
amounts add up as well. Amounts of one currency may have different numbers of decimals, so each part
is scaled to the largest exponent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peewee import SQL, NodeList, fn

from budget_sync.domain.money import MAX_EXPONENT, rescaled

_LOWER_BITS = 26
_UPPER_UNIT = 1 << _LOWER_BITS
_FACTORS = " ".join(
    f"WHEN {exponent} THEN {10 ** (MAX_EXPONENT - exponent)}"
    for exponent in range(MAX_EXPONENT + 1)
)


def sums(exponent: Any, *columns: Any) -> list[Any]:
    """The expressions to select for the sums of columns in minor units of `exponent` decimals.

    `combine_sums` converts the selected row to amounts.
    """
    return [fn.MAX(exponent), *(part for column in columns for part in _parts(exponent, column))]


def combine_sums(selected: Sequence[int]) -> tuple[int, list[int]]:
    """The largest exponent of any row, and the exact sums in minor units of that exponent.

    `selected` is a row of the expressions that `sums` returned.
    """
    exponent, *parts = selected
    return exponent, [
        # PostgreSQL returns sums as Decimal, whose arithmetic is exact only up to 28 digits.
        rescaled(int(upper) * _UPPER_UNIT + int(lower), MAX_EXPONENT, exponent)
        for upper, lower in zip(parts[::2], parts[1::2], strict=True)
    ]


def approximate_sum(exponent: Any, column: Any) -> Any:
    """An expression for the sum as a floating-point number, for sorting only.

    It uses the same parts as `sums`, which the database then computes only once.
    """
    upper, lower = _parts(exponent, column)
    return upper * SQL(f"{_UPPER_UNIT}.0") + lower


def _parts(exponent: Any, column: Any) -> tuple[Any, Any]:
    factor = NodeList((SQL("* CASE"), exponent, SQL(f"{_FACTORS} END")))
    upper = NodeList((SQL("("), column, SQL(f">> {_LOWER_BITS})"), factor))
    lower = NodeList((SQL("("), column, SQL(f"& {_UPPER_UNIT - 1})"), factor))
    return fn.SUM(upper), fn.SUM(lower)
