"""Reads the rows below a header, one after the other: rows -> lines of budgets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from budget_sync.sync.limits import CHECK_EVERY_ROWS, Check
from budget_sync.sync.reading.amounts import CellError
from budget_sync.sync.reading.commas import CommaCheck
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.groups import Group, Groups
from budget_sync.sync.reading.header import heading_text
from budget_sync.sync.reading.headings import hkey
from budget_sync.sync.reading.names import NO_ID, NO_NAME, BudgetId, Name, TotalKind
from budget_sync.sync.reading.notes import Notes
from budget_sync.sync.reading.row_errors import RowErrors
from budget_sync.sync.reading.rows import Row, Sheet
from budget_sync.sync.reading.total_rows import TOTAL, TotalError, TotalRows
from budget_sync.sync.reading.values import Amounts, Period, Verdict, is_blank

BELOW_TABLE: Final = "text below the table"
REPEATED_HEADER: Final = "repeated header"
NOTHING: Final = "neither a department nor an amount"

#: A row that is shorter by more cells than this is not read in the fast way.
_MAX_PADDING: Final = 64


class _Owner(NamedTuple):
    """The group of the rows with equal cells in all columns but that of the amount."""

    group: Group
    period_key: str | None
    amounts: Amounts


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
        columns = sheet.columns
        keys = (columns.department, columns.period, columns.part, columns.currency, *columns.keep)
        self._owner_cells = itemgetter(*(column for column in (*keys, 0) if column is not None))
        self._owners: dict[tuple[Cell, ...], _Owner] = {}
        self._id_column = sheet.columns.budget_id if sheet.uses_ids else None
        self._last_amount_row = self._find_last_amount_row()
        self._filters = list(zip(sheet.filters, sheet.columns.keep, strict=True))
        self._fills = sheet.reading.department.fill == "down"
        self._last_named = NO_NAME
        self._commas = CommaCheck(sheet)
        self._totals = TotalRows(sheet, self.skipped, self.notes)
        self._remembers_owners = not (
            sheet.is_wide or self._fills or self._id_column is not None or columns.limit is not None
        )
        self._has_commas = self._commas.is_needed
        self._add_total = self._totals.running.add
        self._fewest_cells = 1 + max(*sheet.columns.used, *(self._commas.next_columns))

    def read(self, check: Check) -> None:
        """Read all rows."""
        first = self.sheet.layout.last_row + 1
        for start in range(0, len(self._rows), CHECK_EVERY_ROWS):
            check()
            rows = self._rows[start : start + CHECK_EVERY_ROWS]
            for number, cells in self._without_known(rows, first + start):
                if not self._add_plain(number, cells) and not self.sheet.is_blank(cells):
                    self._read(number, cells)

    def _without_known(
        self, rows: Sequence[Sequence[Cell]], first: int
    ) -> Iterator[tuple[int, Sequence[Cell]]]:
        """Add the rows with the same cells as an earlier one, but for the amount; the others.

        Most rows of long sheets end here.
        """
        owner_cells, owners = self._owner_cells, self._owners
        column, add_total = self.sheet.columns.amounts[0], self._add_total
        width, after, has_commas = self.sheet.columns.width, column + 1, self._has_commas
        for number, cells in enumerate(rows, first):
            try:
                owner = owners[owner_cells(cells)]
                amount = owner.amounts[cells[column]]
            except (KeyError, IndexError):
                yield number, cells
                continue
            count = len(cells)
            rest = cells[after] if has_commas and count > after else None
            if (
                not isinstance(amount, int)
                or (has_commas and count > width)
                or (isinstance(rest, str) and "" < rest < ":")
            ):
                yield number, cells
                continue
            group = owner.group
            group.rows.append(number)
            group.total += amount
            add_total((owner.period_key, (amount,)))

    def _add_plain(self, number: int, cells: Sequence[Cell]) -> bool:
        """Add a row that has nothing unusual to its groups; False if it must be read in full."""
        sheet, columns = self.sheet, self.sheet.columns
        count = len(cells)
        if count < self._fewest_cells:
            if count < self._fewest_cells - _MAX_PADDING:
                return False
            cells = [*cells, *[None] * (self._fewest_cells - count)]
        if self._has_commas and self._commas.may_be_split(cells, count):
            return False
        name = sheet.names[cells[columns.department]]
        periods = sheet.fixed_periods or sheet.periods_of(cells)
        if not name.is_plain or periods[0].problem is not None:
            return False
        currency = sheet.default_currency
        if columns.currency is not None:
            currency = sheet.currencies[cells[columns.currency]].code
        for rule, column in self._filters:
            if rule[cells[column]] is not Verdict.KEPT:
                return False
        return bool(currency) and self._add_amounts(number, cells, name, periods, currency)

    def _add_amounts(
        self,
        number: int,
        cells: Sequence[Cell],
        name: Name,
        periods: Sequence[Period],
        currency: str,
    ) -> bool:
        """Add the amounts of a row to their groups; False if one is unusual."""
        sheet, columns = self.sheet, self.sheet.columns
        amounts_of = sheet.amounts(currency)
        amounts: list[int | None] = []
        for column in columns.amounts:
            amount = amounts_of[cells[column]]
            if isinstance(amount, CellError) or (amount is None and not sheet.is_wide):
                return False
            amounts.append(amount)
        limit = None if columns.limit is None else amounts_of[cells[columns.limit]]
        budget_id = NO_ID if self._id_column is None else sheet.ids[cells[self._id_column]]
        if isinstance(limit, CellError) or (limit or 0) < 0 or budget_id.problem is not None:
            return False
        self._last_named = name
        self._add_total((periods[0].key if columns.period is not None else None, amounts))
        for period, amount in zip(periods, amounts, strict=True):
            if amount is not None:
                group = self.groups.of(name, period)
                group.add(number, amount, currency, budget_id.text, limit)
        if self._remembers_owners:
            key = self._owner_cells(cells)
            if all(isinstance(cell, str) for cell in key) and group.currency == currency:
                period_key = periods[0].key if columns.period is not None else None
                self._owners[key] = _Owner(group, period_key, amounts_of)
        return True

    def _read(self, number: int, cells: Sequence[Cell]) -> None:
        """Read a row with anything unusual, by the rules in their order."""
        if number > self._last_amount_row and self._has_one_text(cells):
            self.skipped[number] = BELOW_TABLE
            return
        if self._is_header(cells):
            self.skipped[number] = REPEATED_HEADER
            self._last_named = NO_NAME
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
            is_skipped = self._totals.skips(row, self._last_named if self._is_filled else None)
        except TotalError as error:
            self.errors.reject(row, [str(error)])
            is_skipped = True
        if is_skipped:
            self._last_named = NO_NAME
            return
        self._fill(row)
        self._line(row)

    @property
    def _is_filled(self) -> bool:
        """Whether a blank department is that of a row above."""
        return self._fills and self._last_named is not NO_NAME

    def _fill(self, row: Row) -> None:
        """Fill a blank department from the last named row."""
        if not row.name.is_blank:
            self._last_named = row.name
        elif self._is_filled:
            row.name = self._last_named

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
