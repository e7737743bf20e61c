"""Reads the cells of a sheet: the budgets that its rows describe, and the rows with errors. Pure.

The header row names the columns, in any order and letter case. Nothing is guessed: a row that
cannot be understood is an error with its row number and what to do, and is never applied. Bad rows
are collected, not raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from budget_sync.domain.money import LIMIT_MINOR, MoneyError, currency_exponent
from budget_sync.domain.periods import fold, period_key
from budget_sync.sync.cells import (
    Cell,
    CellError,
    amount_minor,
    is_blank,
    parse_amount,
    reject_unfinished,
    without_long_text,
)
from budget_sync.sync.limits import (
    MAX_CELL_CHARS,
    MAX_QUOTED_CHARS,
    Check,
    checked,
    count_cells,
    cut,
    no_check,
    size_problem,
)
from budget_sync.sync.reading.grid import DateCell, LongCell

DEPARTMENT: Final = "Department"
PERIOD: Final = "Fiscal Period"
AMOUNT: Final = "Budgeted Amount"
BUDGET_ID: Final = "Budget ID"
CURRENCY: Final = "Currency"
LIMIT: Final = "Auto-Approve Limit"

REQUIRED: Final = (DEPARTMENT, PERIOD, AMOUNT)
OPTIONAL: Final = (BUDGET_ID, CURRENCY, LIMIT)
COLUMNS: Final = REQUIRED + OPTIONAL

#: The header is searched in this many rows, because a title or notes may precede it.
HEADER_WITHIN_ROWS: Final = 10

Grid = Sequence[Sequence[Cell]]

#: Department and period, each in its one spelling: unique among the live budgets of a customer.
BudgetKey = tuple[str, str]

T = TypeVar("T")

#: A text as written, its key, and what is wrong with it (the first two are then "").
_Text = tuple[str, str, str]

#: An error names at most this many other rows.
_NAMED_ROWS: Final = 5

_PLAIN_ID = re.compile(r"[A-Za-z0-9._@:/-]{1,100}")

# A name must be typed text: the text that a date cell shows changes with the cell's format, and
# the number behind it means nothing to people.
_AS_TEXT = "format the cell as plain text, and type it again"


class SheetError(Exception):
    """A sheet that cannot be read at all; the sync run fails. The text says why and what to do."""


class SheetBudget(NamedTuple):
    """A budget as a sheet describes it.

    `external_id` is its Budget ID. `limit_minor` is meaningful only if the sheet has that column.
    """

    external_id: str | None
    department: str
    department_key: str
    period: str
    period_key: str
    currency: str
    budgeted_minor: int
    limit_minor: int | None
    exponent: int

    @property
    def key(self) -> BudgetKey:
        """The folded department and period."""
        return self.department_key, self.period_key

    @property
    def label(self) -> str:
        """The name for people."""
        return f"{self.department}, {self.period}"


class SheetRow(NamedTuple):
    """A good row: its number in the sheet, and the budget that it describes."""

    number: int
    budget: SheetBudget


class RowError(NamedTuple):
    """A rejected row, and everything that indicates which budget it means.

    If `id_unknown`, the row has a Budget ID that cannot be read. `external_id` is then its possible
    value if the cell is a date, and None otherwise.
    """

    row: int
    message: str
    external_id: str | None = None
    id_unknown: bool = False
    department_key: str | None = None
    period_key: str | None = None

    @property
    def key(self) -> BudgetKey | None:
        """The department and period, if both are known."""
        if self.department_key is None or self.period_key is None:
            return None
        return self.department_key, self.period_key


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a sheet.

    `names` maps our columns to the sheet's own names for them. `currency` is the customer's. With
    `ragged_is_error`, a row with more cells than the header is rejected: in a CSV file, an unquoted
    "5,000" is two cells.
    """

    currency: str
    locale: str
    names: Mapping[str, str] = field(default_factory=dict)
    ragged_is_error: bool = False


@dataclass(frozen=True, slots=True)
class SheetRows:
    """The good and bad rows of a sheet. `has_limits`: it has the Auto-Approve Limit column."""

    rows: list[SheetRow]
    errors: list[RowError]
    has_limits: bool


def read_rows(grid: Grid, layout: Layout, check: Check = no_check) -> SheetRows:
    """The good and the bad rows of a sheet, each in sheet order.

    Raises SheetError if the sheet has no header, no rows, or too many rows or cells.
    """
    header = _find_header(grid, layout.names)
    below = grid[header.row :]
    if problem := size_problem(len(below), count_cells(below)):
        raise SheetError(problem)
    reader = _Reader(layout, header)
    rows, errors = [], []
    for number, cells in enumerate(checked(below, check), header.row + 1):
        found = reader.read(number, cells)
        if found is None:
            continue
        if isinstance(found, SheetRow):
            rows.append(found)
        else:
            errors.append(found)
    if not rows and not errors:
        raise SheetError(
            f"The sheet is empty below its header (row {header.row}): enter at least one budget, "
            "or remove the source."
        )
    return _without_duplicates(SheetRows(rows, errors, LIMIT in header.columns))


class _Header(NamedTuple):
    """The header's row number, the index of each of our columns, and the header's cell count."""

    row: int
    columns: dict[str, int]
    width: int


def _find_header(grid: Grid, names: Mapping[str, str]) -> _Header:
    wanted = {column: fold(names.get(column, column)) for column in COLUMNS}
    needed = [column for column in COLUMNS if column in REQUIRED or column in names]
    fewest_missing: list[str] = needed
    for row, cells in enumerate(grid[:HEADER_WITHIN_ROWS], 1):
        headings = [_heading(cell) for cell in cells]
        missing = [column for column in needed if wanted[column] not in headings]
        if not missing:
            twice = [column for column in COLUMNS if headings.count(wanted[column]) > 1]
            if twice:
                raise SheetError(
                    f"The header (row {row}) names a column twice: {_named(twice, names)}. "
                    "Rename one of them."
                )
            columns = {
                column: headings.index(heading)
                for column, heading in wanted.items()
                if heading in headings
            }
            width = max(number for number, heading in enumerate(headings, 1) if heading)
            return _Header(row, columns, width)
        fewest_missing = min(fewest_missing, missing, key=len)
    if not any(not is_blank(cell) for cells in grid for cell in cells):
        raise SheetError("The sheet is empty: nothing was changed. Is it the right sheet?")
    raise SheetError(
        f"The sheet has no header row with the column{'s' * (len(fewest_missing) > 1)} "
        f"{_named(fewest_missing, names)}: add it, or map its name with --map."
    )


def _heading(cell: Cell) -> str:
    """A cell of the header in its one spelling; empty if it cannot be a heading."""
    if not isinstance(cell, str) or len(cell) > MAX_CELL_CHARS:
        return ""
    return fold(cell.lstrip("\ufeff"))


def _named(columns: Iterable[str], names: Mapping[str, str]) -> str:
    return ", ".join(repr(names.get(column, column)) for column in columns)


class _OurCells(NamedTuple):
    """The cells of a row in our columns, in the order of COLUMNS."""

    department: Cell
    period: Cell
    amount: Cell
    budget_id: Cell
    currency: Cell
    limit: Cell


class _Reader:
    """Reads the rows of one sheet. Everything that is the same for each row is computed once.

    The caches live as long as the reader: a sheet may have any texts, and the next sheet has
    others.
    """

    def __init__(self, layout: Layout, header: _Header) -> None:
        self.layout = layout
        self.width = header.width
        self.columns = [header.columns.get(column) for column in COLUMNS]
        self.last_column = max(header.columns.values())
        self.has_ids = BUDGET_ID in header.columns
        self.exponent = currency_exponent(layout.currency)
        self.name_of_text = lru_cache(maxsize=65536)(_name_of_text)
        self.period_of_text = lru_cache(maxsize=4096)(_period_of_text)
        self.parse = lru_cache(maxsize=65536)(parse_amount)

    def read(self, number: int, cells: Sequence[Cell]) -> SheetRow | RowError | None:
        """One row; None if it is blank."""
        row = self._our_cells(cells)
        department, department_key, problem = _name(row.department, self.name_of_text)
        period, key, period_problem = _period(row.period, self.period_of_text)
        if problem or period_problem or (len(cells) > self.width and self._has_surplus(cells)):
            return self._reject(number, cells, row)
        currency, exponent = self.layout.currency, self.exponent
        limit_minor = None
        try:
            if not is_blank(row.currency):
                currency, exponent = _currency(row.currency)
            external_id = _external_id(row.budget_id)
            budgeted_minor = self._amount_minor(row.amount, currency, exponent)
            if not is_blank(row.limit):
                limit_minor = self._amount_minor(row.limit, currency, exponent)
        except CellError:
            return self._reject(number, cells, row)
        budget = SheetBudget(
            external_id,
            department,
            department_key,
            period,
            key,
            currency,
            budgeted_minor,
            limit_minor,
            exponent,
        )
        return SheetRow(number, budget)

    def _our_cells(self, cells: Sequence[Cell]) -> _OurCells:
        """The cells of our columns. None stands for a missing column and for a missing cell."""
        # A short row is not extended to the width of the header, which may be huge.
        count = len(cells)
        if count > self.last_column:
            found = [None if index is None else cells[index] for index in self.columns]
        else:
            found = [
                None if index is None or index >= count else cells[index] for index in self.columns
            ]
        return _OurCells._make(map(without_long_text, found))

    def _amount_minor(self, cell: Cell, currency: str, exponent: int) -> int:
        # Most amounts are whole numbers, for which this is faster.
        scale: int = 10**exponent
        if type(cell) is int and 0 <= cell < LIMIT_MINOR // scale:
            return cell * scale
        if type(cell) is str and len(cell) < 10 and cell.isdecimal() and cell.isascii():
            return int(cell) * scale
        return amount_minor(cell, currency, exponent, self.layout.locale, self.parse)

    def _reject(self, number: int, cells: Sequence[Cell], row: _OurCells) -> RowError | None:
        """Everything that is wrong with a row; None if all of our columns are blank."""
        if self._has_surplus(cells):
            # The cells may belong to other columns, so nothing in the row can be relied on.
            return RowError(
                number,
                "has more cells than the header: put quotes around an amount that contains a comma",
                id_unknown=self.has_ids,
            )
        if all(map(is_blank, row)):
            return None
        _, department_key, problem = _name(row.department, self.name_of_text)
        _, key, period_problem = _period(row.period, self.period_of_text)
        external_id, id_problem = _try(_external_id, row.budget_id)
        if isinstance(row.budget_id, DateCell):
            # An ID that was formatted as a date by mistake still identifies its budget.
            external_id = _digits(row.budget_id.number)
        (currency, exponent), currency_problem = (self.layout.currency, self.exponent), None
        if not is_blank(row.currency):
            known, currency_problem = _try(_currency, row.currency)
            currency, exponent = known or (currency, exponent)
        amounts = [(AMOUNT, row.amount)] + ([] if is_blank(row.limit) else [(LIMIT, row.limit)])
        texts = [
            (DEPARTMENT, problem),
            (PERIOD, period_problem),
            (BUDGET_ID, id_problem),
            (CURRENCY, currency_problem),
            *(
                (column, _try(lambda cell: self._amount_minor(cell, currency, exponent), cell)[1])
                for column, cell in amounts
            ),
        ]
        return RowError(
            number,
            "; ".join(f"{column} {text}" for column, text in texts if text),
            external_id,
            id_problem is not None,
            department_key or None,
            key or None,
        )

    def _has_surplus(self, cells: Sequence[Cell]) -> bool:
        return self.layout.ragged_is_error and any(
            not is_blank(cell) for cell in cells[self.width :]
        )


def _try(read: Callable[[Cell], T], cell: Cell) -> tuple[T | None, str | None]:
    """The value of a cell, or what is wrong with it."""
    try:
        return read(cell), None
    except CellError as error:
        return None, str(error)


def _without_duplicates(sheet: SheetRows) -> SheetRows:
    """Reject each row with the same Budget ID, or department and period, as another row.

    The other row may be good or bad.
    """
    ids = [row.budget.external_id for row in sheet.rows] + [
        error.external_id for error in sheet.errors
    ]
    ids = [external_id for external_id in ids if external_id is not None]
    keys = [row.budget.key for row in sheet.rows]
    keys += [key for error in sheet.errors if (key := error.key) is not None]
    if len(set(ids)) == len(ids) and len(set(keys)) == len(keys):
        return sheet
    rows_by_id: dict[str, list[int]] = {}
    rows_by_key: dict[BudgetKey, list[int]] = {}
    for number, external_id, key in (
        *((row.number, row.budget.external_id, row.budget.key) for row in sheet.rows),
        *((error.row, error.external_id, error.key) for error in sheet.errors),
    ):
        if external_id is not None:
            rows_by_id.setdefault(external_id, []).append(number)
        if key is not None:
            rows_by_key.setdefault(key, []).append(number)
    unique, errors = [], list(sheet.errors)
    for row in sheet.rows:
        budget = row.budget
        same_id = [] if budget.external_id is None else rows_by_id[budget.external_id]
        same_key = rows_by_key[budget.key]
        if len(same_id) > 1:
            errors.append(_duplicate(row, f"{BUDGET_ID} {budget.external_id!r}", same_id))
        elif len(same_key) > 1:
            errors.append(_duplicate(row, budget.label, same_key))
        else:
            unique.append(row)
    return SheetRows(unique, sorted(errors), sheet.has_limits)


def _duplicate(row: SheetRow, subject: str, numbers: Sequence[int]) -> RowError:
    """The error for a row; `numbers` are all rows with the same subject, including this one."""
    # Only the rows that the text names are looked at, because there may be many.
    named = [number for number in numbers[: _NAMED_ROWS + 1] if number != row.number]
    others = _row_list(named[:_NAMED_ROWS], len(numbers) - 1)
    return rejected(row, f"{subject} is also in {others}: keep one of them")


def rejected(row: SheetRow, message: str) -> RowError:
    """The error for a row that can be read but not applied."""
    budget = row.budget
    return RowError(
        row.number, message, budget.external_id, False, budget.department_key, budget.period_key
    )


def _row_list(rows: Sequence[int], count: int) -> str:
    """Row numbers for people; there are `count` in all."""
    shown = ", ".join(map(str, rows))
    more = f" and {count - len(rows)} more" if count > len(rows) else ""
    return f"row{'s' * (count > 1)} {shown}{more}"


def _name(cell: Cell, of_text: Callable[[str], _Text]) -> _Text:
    """A department as written, its key, and what is wrong with it (the first two are then "")."""
    if isinstance(cell, str):
        return of_text(cell)
    if cell is None:
        return "", "", "is blank: enter one"
    if isinstance(cell, bool):
        return "", "", f"is {str(cell).upper()}: enter a name"
    if isinstance(cell, DateCell | LongCell):
        return "", "", cell.problem(_AS_TEXT)
    return of_text(_digits(cell))


def _name_of_text(text: str) -> _Text:
    try:
        clean = _clean(text, 200)
    except CellError as error:
        return "", "", str(error)
    return (clean, fold(clean), "") if clean else ("", "", "is blank: enter one")


def _period(cell: Cell, of_text: Callable[[str], _Text]) -> _Text:
    """A period as written, its key, and what is wrong with it (the first two are then "")."""
    if isinstance(cell, str):
        return of_text(cell)
    if cell is None:
        return "", "", "is blank: enter one such as Q1 2025"
    if isinstance(cell, bool):
        return "", "", f"is {str(cell).upper()}: enter one such as Q1 2025"
    if isinstance(cell, DateCell | LongCell):
        return "", "", cell.problem(_AS_TEXT)
    text = _digits(cell)
    if not (text.isdecimal() and 1900 <= int(text) <= 2099):
        # A date in a cell with a number format is a count of days.
        shown = cut(text, MAX_QUOTED_CHARS)
        return "", "", f"is a date or a number ({shown}): enter text such as Q1 2025"
    return of_text(text)


def _period_of_text(text: str) -> _Text:
    try:
        clean = _clean(text, 100)
    except CellError as error:
        return "", "", str(error)
    if not clean:
        return "", "", "is blank: enter one such as Q1 2025"
    return clean, period_key(clean), ""


def _clean(text: str, max_length: int) -> str:
    """Text with single spaces.

    Raises CellError if it is too long, has unprintable characters, or is not a finished value.
    """
    clean = " ".join(text.split())
    reject_unfinished(clean)
    if len(clean) > max_length:
        raise CellError(f"is longer than {max_length} characters: shorten it")
    if not clean.isprintable():
        shown = ascii(cut(clean, MAX_QUOTED_CHARS))
        raise CellError(f"has invisible characters ({shown}): type it again")
    return clean


def _external_id(cell: Cell) -> str | None:
    """A Budget ID; None if the cell is blank. Raises CellError."""
    if isinstance(cell, str):
        if _PLAIN_ID.fullmatch(cell):
            return cell
        return _clean(cell, 100) or None
    if cell is None:
        return None
    if isinstance(cell, bool):
        raise CellError(f"is {str(cell).upper()}: enter an ID")
    if isinstance(cell, DateCell | LongCell):
        raise CellError(cell.problem(_AS_TEXT))
    return _clean(_digits(cell), 100)


def _currency(cell: Cell) -> tuple[str, int]:
    """A currency code and its number of decimals. Raises CellError."""
    if isinstance(cell, DateCell | LongCell):
        raise CellError(cell.problem("enter a code such as USD"))
    if not isinstance(cell, str):
        raise CellError(f"is {cut(str(cell), MAX_QUOTED_CHARS)}: enter a code such as USD")
    code = _clean(cell, 100).upper()
    try:
        return code, currency_exponent(code)
    except MoneyError as error:
        raise CellError(str(error)) from None


def _digits(number: float | Decimal) -> str:
    """A number cell as people read it: 12, not 12.0."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite() or abs(exact) >= 10**20:
        return str(number)
    return f"{int(exact)}" if exact == exact.to_integral_value() else f"{exact.normalize():f}"
