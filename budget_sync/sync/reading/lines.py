"""Reads the rows below a header, one after the other: rows -> lines of budgets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from budget_sync.sync.limits import CHECK_EVERY_ROWS, Check
from budget_sync.sync.reading.amounts import CellError
from budget_sync.sync.reading.commas import CommaCheck
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.groups import Groups
from budget_sync.sync.reading.header import heading_text
from budget_sync.sync.reading.headings import hkey
from budget_sync.sync.reading.line_totals import LineTotals
from budget_sync.sync.reading.names import NO_NAME, BudgetId, TotalKind
from budget_sync.sync.reading.notes import Notes
from budget_sync.sync.reading.plain_rows import PlainRows
from budget_sync.sync.reading.row_errors import RowErrors
from budget_sync.sync.reading.rows import Row, Sheet
from budget_sync.sync.reading.total_rows import TOTAL, TotalError, TotalRows
from budget_sync.sync.reading.values import Period, Verdict, is_blank

BELOW_TABLE: Final = "text below the table"
REPEATED_HEADER: Final = "repeated header"
NOTHING: Final = "neither a department nor an amount"


class Lines:
    """The lines of one sheet, and everything else that its rows say.

    `nameless` are the rows with an amount and no department, with the sum of their amounts, times
    SCALE.
    """

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.groups = Groups(sheet.reading)
        self.errors = RowErrors(sheet, self.groups)
        self.skipped: dict[int, str] = {}
        self.notes = Notes()
        self.nameless: list[tuple[int, int]] = []
        self.blank_amounts = 0
        self._rows = sheet.grid.rows[sheet.layout.last_row :]
        self._last_amount_row = self._find_last_amount_row()
        self._fills = sheet.reading.department.fill == "down"
        self._commas = CommaCheck(sheet)
        self._totals = TotalRows(sheet, self.skipped, self.notes)
        self._line_totals = LineTotals(sheet, self._rows)
        self._has_line_totals = self._line_totals.is_needed
        self._plain = PlainRows(sheet, self.groups, self._commas, self._totals.running)

    def read(self, check: Check) -> None:
        """Read all rows."""
        first = self.sheet.layout.last_row + 1
        for start in range(0, len(self._rows), CHECK_EVERY_ROWS):
            check()
            rows = self._rows[start : start + CHECK_EVERY_ROWS]
            for number, cells in self._unusual(rows, first + start):
                if not self.sheet.is_blank(cells):
                    self._read(number, cells)
        self._finish_line_totals()

    def _unusual(
        self, rows: Sequence[Sequence[Cell]], first: int
    ) -> Iterator[tuple[int, Sequence[Cell]]]:
        """Add the plain rows, of which the first one has this number; the other rows.

        If there are totals among the lines, each row is looked at in full.
        """
        return enumerate(rows, first) if self._has_line_totals else self._plain.others(rows, first)

    def _read(self, number: int, cells: Sequence[Cell]) -> None:
        """Read a row with anything unusual, by the rules in their order."""
        if number > self._last_amount_row and self._has_one_text(cells):
            self.skipped[number] = BELOW_TABLE
            return
        if self._is_header(cells):
            self.skipped[number] = REPEATED_HEADER
            self._plain.last_named = NO_NAME
            return
        row = self.sheet.row(number, cells)
        if problem := self._commas.problem(cells):
            self._reject_split(row, problem)
            return
        if row.verdict is Verdict.LEFT_OUT:
            self.skipped[number] = f"left out by {row.filter}"
            self._fill(row)
            return
        try:
            is_skipped = self._totals.skips(
                row, self._plain.last_named if self._is_filled else None
            )
        except TotalError as error:
            self.errors.reject(row, [str(error)])
            is_skipped = True
        if is_skipped:
            self._plain.last_named = NO_NAME
            return
        self._fill(row)
        if not self._is_line_total(row):
            self._line(row)

    def _is_line_total(self, row: Row) -> bool:
        """Whether a row is the sum of other lines of its department; then it is skipped."""
        if not self._has_line_totals or row.verdict is not Verdict.KEPT or row.name.is_blank:
            return False
        column = self._line_totals.column(row.cells) if row.has_amount else None
        if column is not None and self._line_totals.skips(row, column):
            self.skipped[row.number] = TOTAL
            return True
        if row.has_amount:
            self._line_totals.add(row.name.key, row.periods[0].key, row.readable_amounts)
        return False

    def _finish_line_totals(self) -> None:
        """Add the rows that are lines after all, and reject those that are neither."""
        verdicts = self._line_totals.finish()
        for row in verdicts.lines:
            del self.skipped[row.number]
            self._line(row)
        for row, problem in verdicts.rejected:
            self.errors.reject(row, [problem])
        for note in verdicts.notes:
            self.notes.add("rows that read like totals", note)

    @property
    def _is_filled(self) -> bool:
        """Whether a blank department is that of a row above."""
        return self._fills and self._plain.last_named is not NO_NAME

    def _fill(self, row: Row) -> None:
        """Fill a blank department from the last named row."""
        if not row.name.is_blank:
            self._plain.last_named = row.name
        elif self._is_filled:
            row.name = self._plain.last_named

    def _line(self, row: Row) -> None:
        """Add a row that is neither skipped nor a total to its groups, or reject it."""
        if row.verdict is Verdict.UNKNOWN:
            if row.name.is_blank and not row.has_amount:
                self.skipped[row.number] = f"left out by {row.filter}"
                return
            self._totals.add(row)
            self.errors.reject(row, [self.errors.filter_problem(row)])
            return
        if row.name.is_blank and row.budget_id.is_blank:
            self._nameless(row)
            return
        if not row.has_amount and self._is_nothing(row):
            self.blank_amounts += 1
            return
        self._totals.add(row)
        problems = self.errors.problems(row)
        if problems:
            self.errors.reject(row, [*problems, *self.errors.amount_problems(row)])
            return
        if row.unreadable:
            self.errors.reject_amounts(row)
        limit = self.sheet.limit(row)
        for period, amount in zip(row.periods, row.amounts, strict=True):
            if isinstance(amount, int) and not isinstance(limit, CellError):
                group = self.groups.of(row.name, period)
                group.add(row.number, amount, row.currency.code, row.budget_id.text, limit)

    def _is_nothing(self, row: Row) -> bool:
        """Whether a row with a blank amount says nothing.

        In an Excel file, it may be a formula that was not calculated.
        """
        sheet = self.sheet
        if sheet.is_wide or not sheet.reading.sum or not sheet.grid.is_xlsx:
            return sheet.is_wide or sheet.reading.sum
        is_label = sheet.columns.period is not None and not row.has_period
        is_filled = sheet.reading.department.fill != "no"
        return is_label or (is_filled and self._has_one_text(row.cells))

    def _nameless(self, row: Row) -> None:
        """Remember an amount without a department."""
        if row.has_amount:
            self._totals.add(row)
            self.nameless.append((row.number, sum(each or 0 for each in row.readable_amounts)))
        elif row.number > self._last_amount_row or self._is_nothing(row):
            self.skipped[row.number] = NOTHING
        else:
            self.errors.reject(row, self.errors.problems(row))

    def _reject_split(self, row: Row, problem: str) -> None:
        """Reject a row with an unquoted comma. Only the cells before its amount are reliable."""
        columns = self.sheet.columns
        first = min(columns.amounts)
        if columns.department > first:
            row.name = NO_NAME
        else:
            self._fill(row)
        if row.name.total is TotalKind.PURE:
            self.skipped[row.number] = TOTAL
            return
        if any(column is not None and column > first for column in (columns.period, columns.part)):
            row.periods = (Period("", "", ""),)
        if self.sheet.uses_ids and (columns.budget_id or 0) > first:
            row.budget_id = BudgetId(None, "")
        row.amounts = [CellError() for _ in row.amounts]
        self.errors.reject(row, [problem])

    def _has_one_text(self, cells: Sequence[Cell]) -> bool:
        """Whether all used cells of a row are blank, except for one text."""
        found = [Sheet.cell(cells, column) for column in self.sheet.columns.used]
        filled = [cell for cell in found if not is_blank(cell)]
        return len(filled) == 1 and isinstance(filled[0], str)

    def _is_header(self, cells: Sequence[Cell]) -> bool:
        """Whether a row is the header again."""
        headings = self.sheet.layout.headings
        return self.sheet.reading.header.rows == 1 and all(
            hkey(heading_text(Sheet.cell(cells, column))) == hkey(headings[column])
            for column in self.sheet.columns.used
            if column < len(headings)
        )

    def _find_last_amount_row(self) -> int:
        """The last sheet row with an amount, readable or not."""
        columns = self.sheet.columns.amounts
        for place in range(len(self._rows), 0, -1):
            cells = self._rows[place - 1]
            if any(not is_blank(Sheet.cell(cells, column)) for column in columns):
                return self.sheet.layout.last_row + place
        return self.sheet.layout.last_row
