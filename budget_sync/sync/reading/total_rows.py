"""Decides which rows are totals: by a word, and by comparing them with sums. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from budget_sync.sync.limits import quoted
from budget_sync.sync.reading.names import Name, TotalKind
from budget_sync.sync.reading.notes import Notes
from budget_sync.sync.reading.rows import Row, Sheet
from budget_sync.sync.reading.running_totals import Amounts, RunningTotals, fits_below
from budget_sync.sync.reading.totals import is_pure_total, is_total_like
from budget_sync.sync.reading.values import Verdict, is_blank

TOTAL: Final = "total"
SUBTOTAL: Final = "subtotal"
NAMELESS_TOTAL: Final = "total without a name"
WITHOUT_NAME: Final = "no department, period or ID"

#: The rows of a subtotal above them are within this many rows.
_ROWS_BELOW: Final = 200

#: All totals of a sheet together look at this many rows below them.
_MAX_LOOKS_BELOW: Final = 100_000


class TotalError(Exception):
    """A row that may be a total, but is not the sum of other rows; the text is its error."""


class TotalRows:
    """The totals of one sheet. Skipped rows go into `skipped`."""

    def __init__(self, sheet: Sheet, skipped: dict[int, str], notes: Notes) -> None:
        self._sheet = sheet
        self._skipped = skipped
        self._notes = notes
        self._fills = sheet.reading.department.fill == "down"
        self._looks_left = _MAX_LOOKS_BELOW
        self._total_words: dict[str, bool] = {}
        self.running = RunningTotals(len(sheet.columns.amounts))

    def add(self, row: Row) -> None:
        """Add a row that is not skipped to the sums."""
        self.running.add(self._period_key(row), row.readable_amounts)

    def skips(self, row: Row, last_named: Name | None) -> bool:
        """Whether a row is a total, or has nothing that says whose it is; then it is skipped.

        With `fill: down`, `last_named` is the department of a row without one; None otherwise, and
        below a total. Raises TotalError.
        """
        total = row.name.total
        if total is TotalKind.NAMED:
            return self._named(row)
        if total is TotalKind.PURE:
            self._skip_pure(row, row.name.text)
            return True
        if total is TotalKind.LIKE:
            return self._like(row)
        return row.name.is_blank and row.budget_id.is_blank and self._nameless(row, last_named)

    def _named(self, row: Row) -> bool:
        if not row.has_amount:
            self._skipped[row.number] = SUBTOTAL
        elif self._fits(row) or self._fits_below(row):
            self._skip(row, SUBTOTAL)
        else:
            raise TotalError(
                f"{quoted(row.name.text)} was a subtotal when this reading was confirmed, but it "
                "is no longer the sum of its rows."
            )
        return True

    def _skip_pure(self, row: Row, text: str) -> None:
        if row.has_amount and not (self._fits(row) or self._fits_below(row)):
            self._notes.add(
                "totals that are not sums",
                f"Row {row.number} ({text}) is called a total but is not the sum of the rows "
                "above.",
            )
        self._skip(row, TOTAL)

    def _like(self, row: Row) -> bool:
        if not row.has_amount:
            return False
        if self._fits(row):
            self._skip(row, TOTAL)
            return True
        self.add(row)
        raise TotalError(
            f"{quoted(row.name.text)} reads like a total but is not the sum of the rows above. "
            "Say whether it is a department."
        )

    def _nameless(self, row: Row, last_named: Name | None) -> bool:
        """As `skips`, for a row without a department and an ID."""
        if not row.has_amount:
            return False
        texts = self._texts(row)
        if row.has_period:
            return last_named is not None and self._is_filled_total(row, texts)
        # Such a row may be a line, if its department or its period come from elsewhere.
        may_be_line = last_named is not None or self._sheet.columns.period is None
        words = [text for text in texts if self._is_total_word(text)]
        if self._fits(row, 2 if may_be_line else 1) and (not may_be_line or words or not texts):
            self._skip(row, NAMELESS_TOTAL)
            return True
        if words and is_pure_total(words[0]):
            self._skip_pure(row, words[0])
            return True
        if last_named is not None or (self._sheet.columns.period is None and texts):
            return False
        self._notes.add(
            "rows without a department, period or ID",
            f"Row {row.number} has an amount but no department, period or ID. It was left out.",
        )
        self._skipped[row.number] = WITHOUT_NAME
        return True

    def _is_filled_total(self, row: Row, texts: list[str]) -> bool:
        """Whether a row that would be filled from above has its total word in another column."""
        words = [text for text in texts if self._is_total_word(text)]
        if any(map(is_pure_total, words)):
            self._skip_pure(row, words[0])
            return True
        if words and self._fits(row):
            self._skip(row, TOTAL)
            return True
        return False

    def _skip(self, row: Row, why: str) -> None:
        self._skipped[row.number] = why
        self.running.close(row.readable_amounts)

    def _fits(self, row: Row, fewest_rows: int = 1) -> bool:
        return not row.unreadable and self.running.fits(
            row.readable_amounts, self._period_key(row), fewest_rows=fewest_rows
        )

    def _fits_below(self, row: Row) -> bool:
        return not row.unreadable and fits_below(row.readable_amounts, self._below(row.number))

    def _below(self, number: int) -> Iterator[Amounts]:
        """The amounts of the next rows that count and are not totals themselves."""
        rows = self._sheet.grid.rows
        for below in range(number, min(number + _ROWS_BELOW, len(rows))):
            if self._looks_left <= 0:
                return
            self._looks_left -= 1
            if self._sheet.is_blank(rows[below]):
                continue
            row = self._sheet.row(below + 1, rows[below])
            if row.verdict is Verdict.KEPT and row.name.total in (TotalKind.NONE, TotalKind.LIKE):
                yield row.readable_amounts

    def _period_key(self, row: Row) -> str | None:
        """The key of a row's period; None without a period column, or without a period."""
        return row.periods[0].key or None if self._sheet.columns.period is not None else None

    def _texts(self, row: Row) -> list[str]:
        """The texts of a row in columns that the reading does not use."""
        used = self._sheet.columns.used
        return [
            cell
            for column, cell in enumerate(row.cells)
            if isinstance(cell, str)
            and column not in used
            and not is_blank(cell)
            and any(map(str.isalpha, cell))
        ]

    def _is_total_word(self, text: str) -> bool:
        found = self._total_words.get(text)
        if found is None:
            found = self._total_words[text] = is_total_like(text)
        return found
