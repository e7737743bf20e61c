"""Reads a row of a file of spends: cells -> a spend on a budget, or what is wrong. Pure."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Final, NamedTuple

from budget_sync.domain.balance import Balance
from budget_sync.domain.names import fold
from budget_sync.domain.periods import FiscalYear, PeriodError, api_period_key
from budget_sync.spend_import.amounts import AmountColumn
from budget_sync.spend_import.dates import Dates
from budget_sync.spend_import.table import Line, Table
from budget_sync.sync.limits import quoted
from budget_sync.sync.reading.amounts import CellError
from budget_sync.sync.reading.grid import Cell
from budget_sync.sync.reading.names import MAX_NAME_CHARS, clean_text
from budget_sync.sync.reading.values import Currencies, is_blank, period_text, shown

MAX_SPEND_ID_CHARS: Final = 200

_MAX_HINTS: Final = 5
_FIRST_DIGITS = re.compile(r"[-(]?[^\w\s.,()-]?[0-9]{1,3}")
_NEXT_DIGITS = re.compile(r"[0-9]{3}(?:\.[0-9]{1,4})?")
_SPLIT = "Quote an amount that contains a comma."


class BudgetOfRow(NamedTuple):
    """A live budget that rows can name, with its figures."""

    id: str
    department: str
    period: str
    balance: Balance

    @property
    def label(self) -> str:
        """The budget for people."""
        return f"{self.id} ({self.department}, {self.period})"


class SpendRow(NamedTuple):
    """A row that can be recorded."""

    number: int
    spend_id: str
    budget: BudgetOfRow
    amount: Decimal
    amount_minor: int
    day: date
    vendor: str | None
    po: str | None


class BadRow(NamedTuple):
    """A row that cannot be recorded, and why. `spend_id` is blank if it cannot be read."""

    number: int
    spend_id: str
    problems: tuple[str, ...]


class Budgets:
    """The live budgets of a customer, by department and period."""

    def __init__(self, fiscal_year: FiscalYear) -> None:
        self._fiscal_year = fiscal_year
        self._by_key: dict[tuple[str, str], BudgetOfRow] = {}
        self._names: dict[str, str] = {}
        self._periods: dict[str, list[str]] = defaultdict(list)
        self._aliases: dict[str, str] = {}
        self._found: dict[tuple[str, str], BudgetOfRow | str] = {}

    def add_alias(self, name_key: str, department_key: str) -> None:
        """Add another name of a department. A department with that name has priority."""
        self._aliases[name_key] = department_key

    def add(self, department_key: str, period_key: str, budget: BudgetOfRow) -> None:
        """Add a budget."""
        self._by_key[department_key, period_key] = budget
        self._names.setdefault(department_key, budget.department)
        self._periods[department_key].append(budget.period)

    def all(self) -> Iterable[BudgetOfRow]:
        """All budgets."""
        return self._by_key.values()

    def find(self, department: str, period: str) -> BudgetOfRow | str:
        """The budget, or what is wrong with the department or the period."""
        place = (department, period)
        if place not in self._found:
            self._found[place] = self._find(department, period)
        return self._found[place]

    def _find(self, department: str, period: str) -> BudgetOfRow | str:
        name = fold(department)
        if name not in self._names:
            name = self._aliases.get(name, name)
        try:
            key = api_period_key(period, self._fiscal_year)
        except PeriodError as error:
            return f"Fiscal Period {quoted(error.text)} {error.problem}"
        budget = self._by_key.get((name, key))
        if budget is not None:
            return budget
        if name in self._names:
            return (
                f"{self._names[name]} has no budget for {quoted(period)}. It has budgets for "
                f"{_listed(self._periods[name])}."
            )
        near = difflib.get_close_matches(name, self._names, n=1)
        hint = (
            f"Did you mean {self._names[near[0]]}?"
            if near
            else "`flask list-budgets` shows the departments."
        )
        return f"There is no live budget of a department {quoted(department)}. {hint}"


def _listed(periods: list[str]) -> str:
    more = len(periods) - _MAX_HINTS
    return ", ".join(periods[:_MAX_HINTS]) + (f" and {more} more" if more > 0 else "")


class RowReader:
    """Reads the rows of one file."""

    def __init__(self, table: Table, budgets: Budgets, amounts: AmountColumn, dates: Dates) -> None:
        self._table = table
        self._budgets = budgets
        self._amounts = amounts
        self._dates = dates
        self._currencies = Currencies("", {})

    def read(self, line: Line) -> SpendRow | BadRow:
        """The spend in a row, or everything that is wrong with it."""
        problems: list[str] = []

        def get(heading: str, read: Callable[[Cell], str]) -> str:
            try:
                return read(self._table.cell(line, heading))
            except CellError as error:
                problems.append(f"{heading} {error}")
                return ""

        spend_id = get("Spend ID", _required(_id, "Enter one that no other spend has."))
        department = get("Department", _required(_name, "Enter one."))
        period = get("Fiscal Period", _required(period_text, "Enter a period such as Q1 2025."))
        vendor, po = get("Vendor", _name), get("PO", _name)
        day = self._day(line, problems)
        if split := self._split_amount(line):
            problems.append(split)
        budget = self._budgets.find(department, period) if department and period else ""
        if isinstance(budget, str):
            if budget:
                problems.append(budget)
            return BadRow(line.number, spend_id, tuple(problems))
        amount = self._amount(line, budget, problems)
        if problems or amount is None or day is None:
            return BadRow(line.number, spend_id, tuple(problems))
        minor = int(amount.scaleb(budget.balance.exponent))
        return SpendRow(
            line.number, spend_id, budget, amount, minor, day, vendor or None, po or None
        )

    def _day(self, line: Line, problems: list[str]) -> date | None:
        try:
            return self._dates.read(self._table.cell(line, "Date"))
        except CellError as error:
            problems.append(f"Date {error}")
            return None

    def _amount(self, line: Line, budget: BudgetOfRow, problems: list[str]) -> Decimal | None:
        """The amount in the budget's currency."""
        balance = budget.balance
        found = self._currencies[self._table.cell(line, "Currency")]
        if found.problem is not None:
            problems.append(found.problem)
        elif found.code not in ("", balance.currency):
            problems.append(
                f"Currency is {found.code}, but budget {budget.label} is in {balance.currency}. "
                f"Enter the amount in {balance.currency}."
            )
        try:
            cell = self._table.cell(line, "Amount")
            return self._amounts.read(cell, balance.currency, balance.exponent)
        except CellError as error:
            problems.append(f"Amount {error}")
            return None

    def _split_amount(self, line: Line) -> str | None:
        """The problem of a row of a CSV file in which an unquoted comma splits the amount."""
        if self._table.grid.delimiter != ",":
            return None
        if any(not is_blank(cell) for cell in line.cells[self._table.width :]):
            return f"The row has more cells than the header. {_SPLIT}"
        place = self._table.columns["Amount"]
        amount, rest = (shown(cell) for cell in (*line.cells[place : place + 2], None, None)[:2])
        may_be_split = _FIRST_DIGITS.fullmatch(amount) and _NEXT_DIGITS.fullmatch(rest)
        if may_be_split and (rest.startswith("0") or not self._follows_a_number_column):
            return f"The row has {amount} and {rest} side by side. {_SPLIT}"
        return None

    @cached_property
    def _follows_a_number_column(self) -> bool:
        """Whether most cells to the right of the amounts are digits, such as those of a PO."""
        place = self._table.columns["Amount"] + 1
        cells = [
            line.cells[place]
            for line in self._table.lines()
            if place < len(line.cells) and not is_blank(line.cells[place])
        ]
        return 2 * sum(shown(cell).isdecimal() for cell in cells) > len(cells)


def _required(read: Callable[[Cell], str], advice: str) -> Callable[[Cell], str]:
    """As `read`. Raises CellError for a blank cell."""

    def required(cell: Cell) -> str:
        text = read(cell)
        if not text:
            raise CellError(f"is blank. {advice}")
        return text

    return required


def _id(cell: Cell) -> str:
    return clean_text(cell, MAX_SPEND_ID_CHARS)


def _name(cell: Cell) -> str:
    return clean_text(cell, MAX_NAME_CHARS)
