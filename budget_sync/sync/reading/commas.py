"""Finds rows of a CSV file in which an unquoted comma splits an amount. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from budget_sync.sync.reading.amounts import CellError, is_numeric
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.rows import Sheet
from budget_sync.sync.reading.values import is_blank

_THREE_DIGITS = re.compile(r"[0-9]{3}(?:\.[0-9]{1,4})?")
_NEXT_DIGITS = re.compile(r"[0-9]{3}(?:\.[0-9]{2})?")
_FIRST_DIGITS = re.compile(r"[-(]?[^\w\s.,()-]?[0-9]{1,3}")

_SURPLUS = "The row has more cells than the header. Quote an amount that contains a comma."


class _NextDigits(dict[Cell, bool]):
    """Whether a cell may be the end of an amount that a comma splits. Texts are read once."""

    def __missing__(self, cell: Cell) -> bool:
        """Read the cell."""
        if not isinstance(cell, str):
            return False
        # Digits, spaces and signs are before the colon.
        found = "" < cell < ":" and _NEXT_DIGITS.fullmatch(cell.strip()) is not None
        self[cell] = found
        return found


class CommaCheck:
    """Checks the rows of one sheet. It does nothing unless the file's delimiter is a comma."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._columns = sheet.columns
        self.is_needed = sheet.grid.delimiter == ","
        #: The columns to the right of the amounts, in a file that must be checked.
        self.next_columns = [
            column + 1
            for column in self._columns.amounts
            if self.is_needed and column + 1 < self._columns.width
        ]
        self.may_follow = _NextDigits()
        self._is_text: dict[int, bool] = {}

    def may_be_split(self, cells: Sequence[Cell], count: int) -> bool:
        """Whether a row must be checked. This is fast, and False for most rows.

        The row has `count` cells, and is padded so that it includes the `next_columns`.
        """
        if count > self._columns.width:
            return True
        for column in self.next_columns:
            if self.may_follow[cells[column]]:
                amount = cells[column - 1]
                if isinstance(amount, str) and _FIRST_DIGITS.fullmatch(amount.strip()):
                    return True
        return False

    def problem(self, cells: Sequence[Cell]) -> str | None:
        """What is wrong with a row; None if its amounts are whole."""
        if not self.is_needed:
            return None
        first = min(self._columns.amounts)
        if len(cells) > self._columns.width and any(
            isinstance(cell, str) and _THREE_DIGITS.fullmatch(cell.strip())
            for cell in cells[first + 1 :]
        ):
            return _SURPLUS
        for column in self._columns.amounts:
            if self._is_split(cells, column):
                amount, rest = (str(cell).strip() for cell in cells[column : column + 2])
                return (
                    f"The row has {amount} and {rest} side by side. Quote an amount that contains "
                    "a comma."
                )
        return None

    def _is_split(self, cells: Sequence[Cell], column: int) -> bool:
        """Whether an amount and the cell to its right are one amount."""
        if column + 1 >= len(cells):
            return False
        amount, rest = cells[column], cells[column + 1]
        if not (isinstance(amount, str) and isinstance(rest, str)):
            return False
        amount, rest = amount.strip(), rest.strip()
        if not (_FIRST_DIGITS.fullmatch(amount) and _NEXT_DIGITS.fullmatch(rest)):
            return False
        if rest.startswith("0") or self._is_text_column(column + 1):
            return True
        return column + 1 == self._columns.limit and not self._is_below(rest, amount)

    def _is_below(self, limit: str, amount: str) -> bool:
        amounts = self._sheet.amounts(self._sheet.default_currency)
        found = amounts[limit], amounts[amount]
        if any(isinstance(each, CellError) or each is None for each in found):
            return False
        return bool(found[0] < found[1])  # type: ignore[operator]

    def _is_text_column(self, column: int) -> bool:
        """Whether a column has no heading, or fewer numbers than other cells."""
        if column not in self._is_text:
            headings = self._sheet.layout.headings
            has_heading = column < len(headings) and bool(headings[column])
            self._is_text[column] = not has_heading or self._numeric_share(column) < 0.5
        return self._is_text[column]

    def _numeric_share(self, column: int) -> float:
        """Numbers by cells that are not blank, below the header; 0 for an empty column."""
        filled = numeric = 0
        for cells in self._sheet.grid.rows[self._sheet.layout.last_row :]:
            if column < len(cells) and not is_blank(cells[column]):
                filled += 1
                numeric += is_numeric(cells[column])
        return numeric / filled if filled else 0
