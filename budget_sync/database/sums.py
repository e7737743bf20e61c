"""Sums over many budgets, which need not fit into 64 bits: SQLite's SUM of integers is an error where it does not.

Each sum is taken in two parts, of the upper and the lower bits of its amounts, both of them far from any limit. A shift rounds down
and its rest is never negative, so that the parts of negative amounts add up as well. Amounts of one currency need not have the same
decimals, so each part counts in as many as there can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peewee import SQL, NodeList, fn

from budget_sync.domain.money import MAX_EXPONENT, rescaled

_BITS = 26
_UNIT = 1 << _BITS
_FACTORS = " ".join(
    f"WHEN {exponent} THEN {10 ** (MAX_EXPONENT - exponent)}"
    for exponent in range(MAX_EXPONENT + 1)
)


def sums(exponent: Any, *columns: Any) -> list[Any]:
    """What to select for the sums of these columns, of minor units with as many decimals as `exponent` says: for `whole_sums`."""
    return [fn.MAX(exponent), *(part for column in columns for part in _parts(exponent, column))]


def whole_sums(selected: Sequence[int]) -> tuple[int, list[int]]:
    """How many decimals the sums' minor units have, the most of any row; and the sums, exact, from what was selected for them."""
    exponent, *parts = selected
    return exponent, [
        rescaled(upper * _UNIT + lower, MAX_EXPONENT, exponent)
        for upper, lower in zip(parts[::2], parts[1::2], strict=True)
    ]


def rough_sum(exponent: Any, column: Any) -> Any:
    """An expression for the sum as a number to sort by, made of the same parts, which the database takes only once."""
    upper, lower = _parts(exponent, column)
    return upper * SQL(f"{_UNIT}.0") + lower


def _parts(exponent: Any, column: Any) -> tuple[Any, Any]:
    factor = NodeList((SQL("* CASE"), exponent, SQL(f"{_FACTORS} END")))
    return fn.SUM(NodeList((SQL("("), column, SQL(f">> {_BITS})"), factor))), fn.SUM(
        NodeList((SQL("("), column, SQL(f"& {_UNIT - 1})"), factor))
    )
