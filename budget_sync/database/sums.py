"""Sums over many budgets, which need not fit into 64 bits: SQLite's SUM of integers is an error where it does not.

Each sum is taken in two parts, of the upper and the lower bits of its amounts, both of them far from any limit. A shift rounds down
and its rest is never negative, so that the parts of negative amounts add up as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peewee import SQL, NodeList, fn

_BITS = 32
_UNIT = 1 << _BITS


def sums(*columns: Any) -> list[Any]:
    """What to select for the sums of these columns: two expressions each, for `whole_sums`."""
    return [part for column in columns for part in _parts(column)]


def whole_sums(parts: Sequence[int]) -> list[int]:
    """The sums, exact, from what was selected for them."""
    return [upper * _UNIT + lower for upper, lower in zip(parts[::2], parts[1::2], strict=True)]


def rough_sum(column: Any) -> Any:
    """An expression for the sum as a number to sort by, made of the same parts, which the database takes only once."""
    upper, lower = _parts(column)
    return upper * SQL(f"{_UNIT}.0") + lower


def _parts(column: Any) -> tuple[Any, Any]:
    return fn.SUM(NodeList((column, SQL(f">> {_BITS}")))), fn.SUM(NodeList((column, SQL(f"& {_UNIT - 1}"))))
