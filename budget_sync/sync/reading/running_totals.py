"""Sums of the rows so far, with which a total is compared. Pure.

Everything is linear: each row is added once, and only if there is a total to compare with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from budget_sync.sync.reading.amounts import SCALE

#: The amounts of a row, one for each amount column, times SCALE. None is blank.
Amounts = Sequence[int | None]

#: Sums that differ by less than half a cent are equal: formulas leave noise below it.
_TOLERANCE: Final = SCALE // 200


class Sum:
    """The sum of rows, and their number."""

    __slots__ = ("amounts", "rows")

    def __init__(self, width: int) -> None:
        self.amounts = [0] * width
        self.rows = 0

    def add(self, amounts: Amounts, rows: int = 1) -> None:
        """Add a row, or the sum of so many rows."""
        self.rows += rows
        for place, amount in enumerate(amounts):
            if amount:
                self.amounts[place] += amount


def equal(total: Amounts, amounts: Amounts) -> bool:
    """Whether each amount of a total that is not blank is equal to the sum's."""
    return any(each is not None for each in total) and all(
        each is None or abs(each - (amount or 0)) < _TOLERANCE
        for each, amount in zip(total, amounts, strict=True)
    )


class RunningTotals:
    """The sums of one sheet: since the last total, of all rows, of each period, of subtotals."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._period_keys: list[str | None] = []
        self._amounts: list[int | None] = []
        self._since = Sum(width)
        self._all = Sum(width)
        self._subtotals = Sum(width)
        self._periods: dict[str, Sum] = {}
        #: Two parts of `add`, for the rows of long sheets: the period, and each of the amounts.
        self.add_period = self._period_keys.append
        self.add_amount = self._amounts.append

    def add(self, period_key: str | None, amounts: Amounts) -> None:
        """Add a row that counts, with its period if there is a period column."""
        self._period_keys.append(period_key)
        self._amounts += amounts

    def fits(self, total: Amounts, period_key: str | None, *, fewest_rows: int = 1) -> bool:
        """Whether a row is the sum of at least so many rows, of its period or of subtotals."""
        self._add_all()
        sums = [self._since, self._all]
        if period_key is not None and period_key in self._periods:
            sums.append(self._periods[period_key])
        return any(each.rows >= fewest_rows and equal(total, each.amounts) for each in sums) or (
            self._subtotals.rows >= max(2, fewest_rows) and equal(total, self._subtotals.amounts)
        )

    def close(self, total: Amounts) -> None:
        """Begin a new sum below a total. A total of rows is a subtotal for later totals."""
        self._add_all()
        if self._since.rows and equal(total, self._since.amounts):
            self._subtotals.add(total)
        self._since = Sum(self._width)

    def _add_all(self) -> None:
        """Add the rows since the last time to the sums."""
        if not self._period_keys:
            return
        columns = [self._amounts[place :: self._width] for place in range(self._width)]
        amounts = [sum(filter(None, column)) for column in columns]
        for each in (self._since, self._all):
            each.add(amounts, len(self._period_keys))
        for period_key, *row in zip(self._period_keys, *columns, strict=True):
            if period_key is not None:
                if period_key not in self._periods:
                    self._periods[period_key] = Sum(self._width)
                self._periods[period_key].add(row)
        self._period_keys.clear()
        self._amounts.clear()


def fits_below(total: Amounts, below: Iterable[Amounts]) -> bool:
    """Whether a row is the sum of at least two rows directly below it."""
    found = Sum(len(total))
    for amounts in below:
        found.add(amounts)
        if found.rows >= 2 and equal(total, found.amounts):
            return True
    return False
