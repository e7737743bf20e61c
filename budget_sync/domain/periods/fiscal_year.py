"""A customer's fiscal year, and the dates of its periods. Pure."""

from __future__ import annotations

import re
from datetime import date
from typing import NamedTuple

_KEY = re.compile(r"((?:19|20)[0-9]{2})(?:-(Q[1-4]|H[12]|0[1-9]|1[0-2]))?")

#: How a fiscal year is named: by the calendar year in which it ends or starts.
NAMED_BY = ("end", "start")


class FiscalYear(NamedTuple):
    """The first month of a customer's fiscal year, 1 to 12, and how the year is named.

    `named_by` is one of NAMED_BY.
    """

    first_month: int = 1
    named_by: str = "end"

    @property
    def is_calendar_year(self) -> bool:
        """Whether the fiscal year is the calendar year."""
        return self.first_month == 1

    def first_day(self, name: int) -> date:
        """The first day of the fiscal year of that name."""
        is_later = self.named_by == "end" and not self.is_calendar_year
        return date(name - is_later, self.first_month, 1)

    def name_at(self, year: int, month: int) -> int:
        """The name of the fiscal year that includes a calendar month."""
        is_later = self.named_by == "end" and not self.is_calendar_year
        return year - (month < self.first_month) + is_later

    def calendar_year(self, name: int, month: int) -> int:
        """The calendar year of a month, 1 to 12, in the fiscal year of that name."""
        return self.first_day(name).year + (month < self.first_month)

    def key_of(self, year: int, month: int, length: int) -> str | None:
        """The key of the quarter, half or year that begins with a month, or None.

        `length` is the number of months.
        """
        name, offset = self.name_at(year, month), (month - self.first_month) % 12
        if length == 1:
            return f"{year}-{month:02d}"
        if length not in (3, 6, 12) or offset % length:
            return None
        part = {3: f"-Q{offset // 3 + 1}", 6: f"-H{offset // 6 + 1}", 12: ""}[length]
        return f"{name}{part}"


def period_dates(key: str, fiscal_year: FiscalYear) -> tuple[date, date] | None:
    """The first day of a period and the day after its last day; None if the key has no form.

    Months are calendar months, years and their parts those of the fiscal year.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    name, part = int(match[1]), match[2] or ""
    if part.isdecimal():
        return _first_of(name, int(part)), _first_of(name, int(part) + 1)
    length = {"": 12, "H": 6, "Q": 3}[part[:1]]
    first = fiscal_year.first_day(name)
    month = first.month + (int(part[1:]) - 1 if part else 0) * length
    return _first_of(first.year, month), _first_of(first.year, month + length)


def year_before(key: str) -> str | None:
    """The key of the same period of the year before; None if the key has no form."""
    match = _KEY.fullmatch(key)
    return f"{int(match[1]) - 1}{key[4:]}" if match else None


def is_period_key(key: str) -> bool:
    """Whether a key has the form of a period, and is not the folded text of a name."""
    return _KEY.fullmatch(key) is not None


def _first_of(year: int, month: int) -> date:
    """The first day of a month; month 13 is January of the next year."""
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)


def is_current(key: str, fiscal_year: FiscalYear, today: date) -> bool:
    """Whether a period includes `today`; see `period_dates`."""
    span = period_dates(key, fiscal_year)
    return span is not None and span[0] <= today < span[1]
