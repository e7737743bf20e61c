"""A sheet's cells -> the budgets its rows describe, and the rows that cannot be used. Pure: bad rows are collected, not raised.

The header row names the columns, in any order and letter case. Nothing is guessed: a row that is not understood is an error
with its row number and what to do, and is never applied.
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
    DateCell,
    amount_minor,
    is_blank,
    refuse_unsettled,
)

DEPARTMENT: Final = "Department"
PERIOD: Final = "Fiscal Period"
AMOUNT: Final = "Budgeted Amount"
BUDGET_ID: Final = "Budget ID"
CURRENCY: Final = "Currency"
LIMIT: Final = "Auto-Approve Limit"

REQUIRED: Final = (DEPARTMENT, PERIOD, AMOUNT)
OPTIONAL: Final = (BUDGET_ID, CURRENCY, LIMIT)
COLUMNS: Final = REQUIRED + OPTIONAL

#: A title or a few notes may stand above the header.
HEADER_WITHIN_ROWS: Final = 10

Grid = Sequence[Sequence[Cell]]
T = TypeVar("T")

_PLAIN_ID = re.compile(r"[A-Za-z0-9._@:/-]{1,100}")

# A name goes by what was typed: what a date shows changes with the cell's format, and the number behind it says nothing to anybody.
_AS_TEXT = "format the cell as plain text, and type it anew"


class SheetProblem(Exception):
    """A sheet that cannot be read as a whole, so that the pass fails; the text says why and what to do."""


class SheetBudget(NamedTuple):
    """What a good row says. `external_id` is its Budget ID; `limit_minor` means something only where the sheet has that column."""

    row: int
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
    def key(self) -> tuple[str, str]:
        """What makes a budget the only live one of its customer."""
        return self.department_key, self.period_key


class RowError(NamedTuple):
    """A row that is not applied, and all that it lets be known of which budget it means.

    `id_unknown` says that its Budget ID is there but cannot be read; `external_id` is then what it may be, for a date.
    """

    row: int
    message: str
    external_id: str | None = None
    id_unknown: bool = False
    department_key: str | None = None
    period_key: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a sheet. `names` maps our columns to the sheet's own names for them; `currency` is the customer's.

    With `ragged_is_error`, a row with cells beyond the header's is refused: in a CSV, an unquoted "5,000" is two cells.
    """

    currency: str
    locale: str
    names: Mapping[str, str] = field(default_factory=dict)
    ragged_is_error: bool = False


@dataclass(frozen=True, slots=True)
class SheetRows:
    """What a sheet says. `has_limits` tells whether it has the Auto-Approve Limit column at all."""

    budgets: list[SheetBudget]
    errors: list[RowError]
    has_limits: bool


def read_rows(grid: Grid, layout: Layout) -> SheetRows:
    """The budgets and the bad rows of a sheet, each in its order. Raises SheetProblem for one without header or rows."""
    header_row, at, width = _find_header(grid, layout.names)
    reader = _Reader(layout, at, width)
    budgets, errors = [], []
    for row, cells in enumerate(grid[header_row:], header_row + 1):
        found = reader.read(row, cells)
        if found is None:
            continue
        if isinstance(found, SheetBudget):
            budgets.append(found)
        else:
            errors.append(found)
    if not budgets and not errors:
        raise SheetProblem(
            f"The sheet is empty below its header (row {header_row}): enter at least one budget, or remove the source."
        )
    return _without_duplicates(SheetRows(budgets, errors, LIMIT in at))


def _find_header(grid: Grid, names: Mapping[str, str]) -> tuple[int, dict[str, int], int]:
    """The header's row number, where each of our columns stands, and how many cells the header has."""
    wanted = {column: fold(names.get(column, column)) for column in COLUMNS}
    needed = [column for column in COLUMNS if column in REQUIRED or column in names]
    best: list[str] = needed
    for row, cells in enumerate(grid[:HEADER_WITHIN_ROWS], 1):
        headings = [fold(cell.lstrip("\ufeff")) if isinstance(cell, str) else "" for cell in cells]
        missing = [column for column in needed if wanted[column] not in headings]
        if not missing:
            twice = [column for column in COLUMNS if headings.count(wanted[column]) > 1]
            if twice:
                raise SheetProblem(
                    f"The header (row {row}) names a column twice: {_named(twice, names)}. Rename one of them."
                )
            at = {
                column: headings.index(heading)
                for column, heading in wanted.items()
                if heading in headings
            }
            return row, at, max(number for number, heading in enumerate(headings, 1) if heading)
        best = min(best, missing, key=len)
    if not any(not is_blank(cell) for cells in grid for cell in cells):
        raise SheetProblem("The sheet is empty: nothing was changed. Is it the right sheet?")
    raise SheetProblem(
        f"The sheet has no header row with the column{'s' * (len(best) > 1)} {_named(best, names)}: add it, or map its name with --map."
    )


def _named(columns: Iterable[str], names: Mapping[str, str]) -> str:
    return ", ".join(repr(names.get(column, column)) for column in columns)


class _Reader:
    """Reads one row after the other. Made once a sheet, so that the 10,000th row costs no more than it must."""

    def __init__(self, layout: Layout, at: Mapping[str, int], width: int) -> None:
        self.layout = layout
        self.width = width
        self.department, self.period, self.amount = (at[column] for column in REQUIRED)
        self.budget_id, self.currency, self.limit = (at.get(column) for column in OPTIONAL)
        self.used = tuple(at.values())
        self.exponent = currency_exponent(layout.currency)

    def read(self, row: int, cells: Sequence[Cell]) -> SheetBudget | RowError | None:
        """What a row says; None for a blank one."""
        if len(cells) < self.width:
            cells = [*cells, *[None] * (self.width - len(cells))]
        department, department_key, problem = _name(cells[self.department])
        period, key, period_problem = _period(cells[self.period])
        if problem or period_problem or (len(cells) > self.width and self._has_surplus(cells)):
            return self._refuse(row, cells)
        currency, exponent = self.layout.currency, self.exponent
        external_id = limit_minor = None
        try:
            if self.currency is not None and not is_blank(cells[self.currency]):
                currency, exponent = _currency(cells[self.currency])
            if self.budget_id is not None:
                external_id = _external_id(cells[self.budget_id])
            amount = cells[self.amount]
            if type(amount) is int and 0 <= amount < LIMIT_MINOR // 10**exponent:
                budgeted_minor = amount * 10**exponent
            elif (
                type(amount) is str and len(amount) < 10 and amount.isdecimal() and amount.isascii()
            ):
                budgeted_minor = int(amount) * 10**exponent
            else:
                budgeted_minor = amount_minor(amount, currency, exponent, self.layout.locale)
            if self.limit is not None and not is_blank(cells[self.limit]):
                limit_minor = amount_minor(
                    cells[self.limit], currency, exponent, self.layout.locale
                )
        except CellError:
            return self._refuse(row, cells)
        return SheetBudget(
            row,
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

    def _refuse(self, row: int, cells: Sequence[Cell]) -> RowError | None:
        """Everything that is wrong with a row; None where none of our columns has anything in it."""
        if self._has_surplus(cells):
            # What stands in which column is not known then: nothing of the row can be relied on.
            return RowError(
                row,
                "has more cells than the header: quote an amount that holds a comma",
                id_unknown=self.budget_id is not None,
            )
        if all(is_blank(cells[column]) for column in self.used):
            return None
        _, department_key, problem = _name(cells[self.department])
        _, key, period_problem = _period(cells[self.period])
        problems = [
            f"{column} {what}"
            for column, what in ((DEPARTMENT, problem), (PERIOD, period_problem))
            if what
        ]
        id_cell = None if self.budget_id is None else cells[self.budget_id]
        external_id, id_problem = _try(_external_id, id_cell)
        if isinstance(id_cell, DateCell):
            # A number that somebody formatted as a date still means its budget.
            external_id = _digits(id_cell.number)
        (currency, exponent), currency_problem = (self.layout.currency, self.exponent), None
        if self.currency is not None and not is_blank(cells[self.currency]):
            known, currency_problem = _try(_currency, cells[self.currency])
            currency, exponent = known or (currency, exponent)
        problems += [
            f"{column} {what}"
            for column, what in ((BUDGET_ID, id_problem), (CURRENCY, currency_problem))
            if what
        ]
        for column, at in ((AMOUNT, self.amount), (LIMIT, self.limit)):
            if at is not None and not (column == LIMIT and is_blank(cells[at])):
                _, what = _try(
                    lambda cell: amount_minor(cell, currency, exponent, self.layout.locale),
                    cells[at],
                )
                problems += [f"{column} {what}"] if what else []
        return RowError(
            row,
            "; ".join(problems),
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
    """What a cell says, or what is wrong with it."""
    try:
        return read(cell), None
    except CellError as error:
        return None, str(error)


def _without_duplicates(found: SheetRows) -> SheetRows:
    """The same with every row refused that shares its Budget ID, or department and period, with another, be that good or bad."""
    rows: list[SheetBudget | RowError] = [*found.budgets, *found.errors]
    ids = [row.external_id for row in rows if row.external_id is not None]
    keys = [
        (row.department_key, row.period_key)
        for row in rows
        if row.department_key is not None and row.period_key is not None
    ]
    if len(set(ids)) == len(ids) and len(set(keys)) == len(keys):
        return found
    by_id: dict[str | None, list[int]] = {}
    by_key: dict[tuple[str | None, str | None], list[int]] = {}
    for row in rows:
        by_id.setdefault(row.external_id, []).append(row.row)
        by_key.setdefault((row.department_key, row.period_key), []).append(row.row)
    budgets, errors = [], list(found.errors)
    for good in found.budgets:
        same_id = [] if good.external_id is None else by_id[good.external_id]
        same_key = by_key[good.key]
        if len(same_id) <= 1 and len(same_key) <= 1:
            budgets.append(good)
            continue
        what, same = (
            (f"{BUDGET_ID} {good.external_id!r}", same_id)
            if len(same_id) > 1
            else (f"{good.department}, {good.period}", same_key)
        )
        others = _row_list(row for row in same if row != good.row)
        errors.append(
            RowError(
                good.row,
                f"{what} stands in {others} as well: keep one of them",
                good.external_id,
                False,
                *good.key,
            )
        )
    return SheetRows(budgets, sorted(errors), found.has_limits)


def _row_list(rows: Iterable[int]) -> str:
    numbers = [str(row) for row in rows]
    shown = ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return f"row{'s' * (len(numbers) > 1)} {shown}"


def _name(cell: Cell) -> tuple[str, str, str]:
    """A department as it is written, its key, and what is wrong with it (then the first two are empty)."""
    if isinstance(cell, str):
        return _name_of_text(cell)
    if cell is None:
        return "", "", "is blank: enter one"
    if isinstance(cell, bool):
        return "", "", f"is {str(cell).upper()}: enter a name"
    if isinstance(cell, DateCell):
        return "", "", cell.problem(_AS_TEXT)
    return _name_of_text(_digits(cell))


@lru_cache(maxsize=65536)
def _name_of_text(text: str) -> tuple[str, str, str]:
    try:
        clean = _clean(text, 200)
    except CellError as error:
        return "", "", str(error)
    return (clean, fold(clean), "") if clean else ("", "", "is blank: enter one")


def _period(cell: Cell) -> tuple[str, str, str]:
    """A period as it is written, its key, and what is wrong with it (then the first two are empty)."""
    if isinstance(cell, str):
        return _period_of_text(cell)
    if cell is None:
        return "", "", "is blank: enter one such as Q1 2025"
    if isinstance(cell, bool):
        return "", "", f"is {str(cell).upper()}: enter one such as Q1 2025"
    if isinstance(cell, DateCell):
        return "", "", cell.problem(_AS_TEXT)
    text = _digits(cell)
    if not (text.isdecimal() and 1900 <= int(text) <= 2099):
        # A date whose cell is formatted as a number is a count of days.
        return "", "", f"is a date or a number ({text}): enter text such as Q1 2025"
    return _period_of_text(text)


@lru_cache(maxsize=4096)
def _period_of_text(text: str) -> tuple[str, str, str]:
    try:
        clean = _clean(text, 100)
    except CellError as error:
        return "", "", str(error)
    return (
        (clean, period_key(clean), "") if clean else ("", "", "is blank: enter one such as Q1 2025")
    )


def _clean(text: str, most: int) -> str:
    """Text with its white space made plain. Raises CellError for what is too long, unprintable, or no settled value."""
    clean = " ".join(text.split())
    refuse_unsettled(clean)
    if len(clean) > most:
        raise CellError(f"is longer than {most} characters: shorten it")
    if not clean.isprintable():
        raise CellError(f"has characters that cannot be seen ({clean!a}): type it anew")
    return clean


def _external_id(cell: Cell) -> str | None:
    """A Budget ID; None where there is none. Raises CellError."""
    if isinstance(cell, str):
        if _PLAIN_ID.fullmatch(cell):
            return cell
        return _clean(cell, 100) or None
    if cell is None:
        return None
    if isinstance(cell, bool):
        raise CellError(f"is {str(cell).upper()}: enter an ID")
    if isinstance(cell, DateCell):
        raise CellError(cell.problem(_AS_TEXT))
    return _clean(_digits(cell), 100)


def _currency(cell: Cell) -> tuple[str, int]:
    if isinstance(cell, DateCell):
        raise CellError(cell.problem("enter a code such as USD"))
    if not isinstance(cell, str):
        raise CellError(f"is {cell}: enter a code such as USD")
    code = _clean(cell, 100).upper()
    try:
        return code, currency_exponent(code)
    except MoneyError as error:
        raise CellError(str(error)) from None


def _digits(number: float | Decimal) -> str:
    """A number cell as a person reads it: 12, not 12.0."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite() or abs(exact) >= 10**20:
        return str(number)
    return f"{int(exact)}" if exact == exact.to_integral_value() else f"{exact.normalize():f}"
