"""Reads the date in a cell, and finds out whether the day or the month comes first. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from budget_sync.sync.limits import MAX_CELL_CHARS, quoted
from budget_sync.sync.reading.amounts import CellError, plain_number, reject_unfinished, sentence
from budget_sync.sync.reading.grid import Cell, DateCell, LongCell
from budget_sync.sync.reading.values import shown

_EXAMPLE = "Write it like 2025-03-31."
_YEARS: Final = range(2000, 2100)
_EXCEL_DAY_0 = date(1899, 12, 30)
_DAYS_FROM_1900_TO_1904 = 1462

# A time may follow, as in the export of a database.
_TIME = r"(?:[T ][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?: ?[AaPp][Mm])?Z?)?"
_YEAR_FIRST = re.compile(rf"([0-9]{{4}})([-/.])([0-9]{{1,2}})\2([0-9]{{1,2}}){_TIME}")
_YEAR_LAST = re.compile(rf"([0-9]{{1,2}})([-/.]) ?([0-9]{{1,2}})\2 ?([0-9]{{4}}|[0-9]{{2}}){_TIME}")
_NAMED = re.compile(r"[A-Za-z]+|[0-9]+")
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)


class DateOrder(StrEnum):
    """Whether the day or the month comes first in 03/04/2025."""

    DMY = "dmy"
    MDY = "mdy"


class Dates:
    """Reads the dates of one column.

    `order` says what 03/04/2025 means; None if neither the operator nor another row of the column
    says it. With dots, the day comes first: 03.04.2025.
    """

    def __init__(self, order: DateOrder | None, *, from_1904: bool = False) -> None:
        self._order = order
        self._from_1904 = from_1904

    def read(self, cell: Cell) -> date:
        """The date in a cell. Raises CellError, with what follows "Date" in a sentence."""
        if isinstance(cell, DateCell):
            return self._of_number(cell)
        if isinstance(cell, LongCell):
            raise CellError(sentence(cell.problem("")))
        text = plain_number(shown(cell)[:MAX_CELL_CHARS])
        if not text:
            raise CellError(f"is blank. {_EXAMPLE}")
        reject_unfinished(text)
        if match := _YEAR_FIRST.fullmatch(text):
            return _day(text, int(match[1]), int(match[3]), int(match[4]))
        if match := _YEAR_LAST.fullmatch(text):
            year = int(match[4]) + (2000 if len(match[4]) == 2 else 0)
            return self._of_numbers(text, int(match[1]), int(match[3]), year, match[2])
        return _with_named_month(text)

    def _of_number(self, cell: DateCell) -> date:
        """The date of a cell that a spreadsheet stores as a number of days."""
        days = int(cell.number) + (_DAYS_FROM_1900_TO_1904 if self._from_1904 else 0)
        text = cell.shown or str(cell.number)
        if not 0 < days < 100_000:
            raise CellError(f"is {quoted(text)}, which is no date. {_EXAMPLE}")
        found = _EXCEL_DAY_0 + timedelta(days=days)
        return _day(text, found.year, found.month, found.day)

    def _of_numbers(self, text: str, first: int, second: int, year: int, mark: str) -> date:
        if mark == ".":
            return _day(text, year, second, first)
        order = self._order or _settled(first, second)
        if order is None and first == second:
            order = DateOrder.DMY
        if order is None:
            months = f"{_day(text, year, second, first)} or {_day(text, year, first, second)}"
            raise CellError(
                f"is {quoted(text)}, which is {months}. Run the import again with --date-order dmy "
                "(day first) or mdy (month first), or write the date like 2025-03-31."
            )
        day, month = (first, second) if order is DateOrder.DMY else (second, first)
        return _day(text, year, month, day)


def find_order(cells: Iterable[Cell]) -> DateOrder | None:
    """The order that the unambiguous dates of a column show; None if there is none, or both."""
    found = set()
    for cell in cells:
        if isinstance(cell, str):
            match = _YEAR_LAST.fullmatch(cell[:MAX_CELL_CHARS].strip())
            if match and match[2] != ".":
                found.add(_settled(int(match[1]), int(match[3])))
    orders = found - {None}
    return orders.pop() if len(orders) == 1 else None


def _settled(first: int, second: int) -> DateOrder | None:
    """The order of a date in which only one of the two numbers can be a month."""
    if first > 12 >= second:
        return DateOrder.DMY
    return DateOrder.MDY if second > 12 >= first else None


def _with_named_month(text: str) -> date:
    """The date in a text such as "31 Mar 2025" or "March 31, 2025". Raises CellError."""
    parts = _NAMED.findall(text) if len(text) <= 40 else []
    names = [part for part in parts if part.isalpha()]
    numbers = [int(part) for part in parts if part.isdecimal()]
    month = names[0][:3].casefold() if len(names) == 1 and len(names[0]) >= 3 else ""
    if month not in _MONTHS or len(numbers) != 2 or not parts[2].isdecimal():
        raise CellError(f"is {quoted(text)}, which is no date. {_EXAMPLE}")
    return _day(text, numbers[1], _MONTHS.index(month) + 1, numbers[0])


def _day(text: str, year: int, month: int, day: int) -> date:
    """The day. Raises CellError if the calendar does not have it, or its year is implausible."""
    try:
        found = date(year, month, day)
    except ValueError:
        raise CellError(f"is {quoted(text)}, which is no date. {_EXAMPLE}") from None
    if year not in _YEARS:
        raise CellError(f"is {quoted(text)}. Enter a year from 2000 to 2099.")
    return found


def to_day(stored: date | datetime | str) -> date:
    """A stored day. SQLite returns text, PostgreSQL a date."""
    return date.fromisoformat(stored) if isinstance(stored, str) else stored
