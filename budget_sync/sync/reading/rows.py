"""The cells of one row in the columns of a reading, with what each of them says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from budget_sync.domain.periods import Settled
from budget_sync.sync.reading.amounts import AmountReader, CellError
from budget_sync.sync.reading.grid import Cell, Grid, Merge
from budget_sync.sync.reading.header import Layout
from budget_sync.sync.reading.model import (
    CurrencyColumn,
    CurrencyConstant,
    PeriodColumn,
    PeriodConstant,
    PeriodHeadings,
    Reading,
)
from budget_sync.sync.reading.names import NO_ID, NO_NAME, BudgetId, BudgetIds, Name, Names
from budget_sync.sync.reading.result import Customer, SheetProblem
from budget_sync.sync.reading.values import (
    Amounts,
    Currencies,
    Currency,
    FilterValues,
    Period,
    Periods,
    Verdict,
    YearsAndParts,
    is_blank,
)

LIMIT_COLUMN: Final = "Auto-Approve Limit"


@dataclass(frozen=True, slots=True)
class Columns:
    """The index of each column, from 0; None if the reading has none.

    `used` are all of them. `width` counts the columns of the header.
    """

    department: int
    amounts: tuple[int, ...]
    period: int | None
    part: int | None
    budget_id: int | None
    currency: int | None
    limit: int | None
    keep: tuple[int, ...]
    used: tuple[int, ...]
    width: int


@dataclass(slots=True)
class Row:
    """The cells of a row, read by the sheet's reading.

    `amounts` and `periods` have one entry for each amount column; a blank amount is None.
    `verdict` is the strictest verdict of the filters, and `filter` is the column behind it.
    `has_period` is whether the cell of a period column is not blank.
    """

    number: int
    cells: Sequence[Cell]
    name: Name
    budget_id: BudgetId
    currency: Currency
    amounts: list[int | CellError | None]
    periods: Sequence[Period]
    verdict: Verdict
    filter: str
    has_period: bool

    @property
    def has_amount(self) -> bool:
        """Whether an amount is not blank, readable or not."""
        return any(amount is not None for amount in self.amounts)

    @property
    def readable_amounts(self) -> list[int | None]:
        """The amounts, with 0 for one that cannot be read."""
        return [0 if isinstance(amount, CellError) else amount for amount in self.amounts]

    @property
    def unreadable(self) -> bool:
        """Whether an amount cannot be read."""
        return any(isinstance(amount, CellError) for amount in self.amounts)


class Sheet:
    """A sheet with its reading. The caches live as long as it: the next sheet has other texts."""

    def __init__(self, reading: Reading, grid: Grid, layout: Layout, customer: Customer) -> None:
        self.reading, self.grid, self.layout, self.customer = reading, grid, layout, customer
        self.columns = _columns(reading, layout)
        #: Whether each amount column has a period of its own.
        self.is_wide = isinstance(reading.period, PeriodHeadings)
        #: Whether a Budget ID names a budget. It names a line if rows are added up.
        self.uses_ids = (
            self.columns.budget_id is not None
            and not reading.sum
            and len(self.columns.amounts) == 1
        )
        self.names = Names(
            strip_codes=reading.department.code == "strip",
            subtotals=reading.totals.names,
            departments=reading.totals.departments,
        )
        self.ids = BudgetIds()
        default, words = customer.currency, {}
        if isinstance(reading.currency, CurrencyConstant):
            default = reading.currency.constant
        elif isinstance(reading.currency, CurrencyColumn):
            words = reading.currency.words
        self.default_currency = default
        self.currencies = Currencies(default, words)
        self.filters = [FilterValues(rule) for rule in reading.keep]
        self._reader = AmountReader(reading.marks)
        self._amounts: dict[str, Amounts] = {}
        self._limits: dict[str, Amounts] = {}
        self._merged = merged_cells(grid, self.columns.department, layout.last_row)
        settled = _settled(reading)
        self.periods = Periods(customer.fiscal_year, settled)
        self.years_and_parts: YearsAndParts | None = None
        if isinstance(reading.period, PeriodColumn) and reading.period.part is not None:
            self.years_and_parts = YearsAndParts(reading.period, customer.fiscal_year, settled)
        self.fixed_periods = self._fixed_periods()

    def amounts(self, currency: str) -> Amounts:
        """The amounts of the cells in a currency."""
        if currency not in self._amounts:
            self._amounts[currency] = Amounts(self._reader, currency, self.reading.blanks)
        return self._amounts[currency]

    def row(self, number: int, cells: Sequence[Cell]) -> Row:
        """Read a row of the sheet."""
        columns = self.columns
        verdict, rule = self._verdict(cells)
        currency = self.currencies[self.cell(cells, columns.currency)]
        amounts = self.amounts(currency.code or self.default_currency)
        return Row(
            number=number,
            cells=cells,
            name=self.name(number, cells),
            budget_id=self.ids[self.cell(cells, columns.budget_id)] if self.uses_ids else NO_ID,
            currency=currency,
            amounts=[amounts[self.cell(cells, column)] for column in columns.amounts],
            periods=self.periods_of(cells),
            verdict=verdict,
            filter=rule,
            has_period=not is_blank(self.cell(cells, columns.period)),
        )

    def name(self, number: int, cells: Sequence[Cell]) -> Name:
        """The department of a row; a merged range fills it from its first cell."""
        name = self.names[self.cell(cells, self.columns.department)]
        if name is NO_NAME and number in self._merged:
            return self.names[self._merged[number]]
        return name

    def limit(self, row: Row) -> int | CellError | None:
        """The auto-approve limit of a row, times SCALE; None without one."""
        limit = self.amounts(row.currency.code)[self.cell(row.cells, self.columns.limit)]
        if isinstance(limit, int) and limit < 0:
            return CellError("is below 0. Enter 0 or more, or nothing.")
        return limit

    def is_blank(self, cells: Sequence[Cell]) -> bool:
        """Whether all used cells of a row are blank."""
        count = len(cells)
        return all(column >= count or is_blank(cells[column]) for column in self.columns.used)

    @staticmethod
    def cell(cells: Sequence[Cell], column: int | None) -> Cell:
        """A cell of a row; None if the column is missing, or the row is shorter."""
        return cells[column] if column is not None and column < len(cells) else None

    def _verdict(self, cells: Sequence[Cell]) -> tuple[Verdict, str]:
        """The strictest verdict of the filters, and the column that gives it."""
        strictest, name = Verdict.KEPT, ""
        for rule, column in zip(self.filters, self.columns.keep, strict=True):
            verdict = rule[self.cell(cells, column)]
            if verdict is Verdict.LEFT_OUT:
                return verdict, rule.column
            if verdict is Verdict.UNKNOWN and strictest is Verdict.KEPT:
                strictest, name = verdict, rule.column
        return strictest, name

    def periods_of(self, cells: Sequence[Cell]) -> Sequence[Period]:
        """The period of each amount column of a row."""
        if self.fixed_periods is not None:
            return self.fixed_periods
        cell = self.cell(cells, self.columns.period)
        if self.years_and_parts is not None:
            return (self.years_and_parts[cell, self.cell(cells, self.columns.part)],)
        return (self.periods[cell],)

    def _fixed_periods(self) -> list[Period] | None:
        """The period of each amount column; None if there is a period column.

        Raises SheetProblem.
        """
        period = self.reading.period
        if isinstance(period, PeriodColumn):
            return None
        if isinstance(period, PeriodConstant):
            found = [self.periods.of_text(period.constant)]
        else:
            found = [
                self.periods.of_text(period.headings[heading])
                for heading in self.reading.amount.columns
            ]
        for each in found:
            if each.problem is not None:
                raise SheetProblem(f"{each.problem} Run reread-source.")
        _require_different(self.reading.amount.columns, found)
        return found


def _require_different(headings: Sequence[str], periods: Sequence[Period]) -> None:
    """Raise SheetProblem if two amount columns have one period: they are never added up."""
    first: dict[str, str] = {}
    for heading, period in zip(headings, periods, strict=True):
        other = first.setdefault(period.key, heading)
        if other != heading:
            raise SheetProblem(
                f"The columns {other!r} and {heading!r} are both for {period.key}. Run "
                "reread-source to choose one of them."
            )


def _columns(reading: Reading, layout: Layout) -> Columns:
    at = layout.columns
    currency = reading.currency
    period = reading.period if isinstance(reading.period, PeriodColumn) else None
    width = max(
        (column for column, heading in enumerate(layout.headings, 1) if heading),
        default=0,
    )
    return Columns(
        department=at[reading.department.column],
        amounts=tuple(at[heading] for heading in reading.amount.columns),
        period=None if period is None else at[period.column],
        part=None if period is None or period.part is None else at[period.part],
        budget_id=None if reading.id is None else at[reading.id],
        currency=at[currency.column] if isinstance(currency, CurrencyColumn) else None,
        limit=None if reading.limit is None else at[reading.limit],
        keep=tuple(at[rule.column] for rule in reading.keep),
        used=tuple(sorted(set(at.values()))),
        width=max(width, 1 + max(at.values())),
    )


def _settled(reading: Reading) -> Settled:
    period = reading.period
    return Settled(period.year, period.dash, period.ddmon, period.tri, period.mdy, period.dates)


def merged_cells(grid: Grid, column: int, last_header_row: int) -> dict[int, Cell]:
    """The first cell of the merged range that covers a column in each sheet row.

    Of overlapping ranges, the upper one counts.
    """
    cells: dict[int, Cell] = {}
    covered = last_header_row
    merges: list[Merge] = sorted(
        merge
        for merge in grid.merges
        if merge.column1 == column and merge.row1 >= last_header_row and merge.row2 > merge.row1
    )
    for merge in merges:
        if merge.row1 >= len(grid.rows):
            break
        first = Sheet.cell(grid.rows[merge.row1], column)
        last = min(merge.row2 + 1, len(grid.rows))
        for number in range(max(covered, merge.row1) + 1, last + 1):
            cells[number] = first
        covered = max(covered, last)
    return cells
