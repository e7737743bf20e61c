"""The years in the title and in the file name. They are never answers to a question. Pure.

They are proposals for the year of a sheet, and a note if a later sheet has another year.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from budget_sync.domain.periods import FiscalYear, read_period
from budget_sync.sync.limits import quoted
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.headings import plain
from budget_sync.sync.reading.model import PeriodConstant, Reading
from budget_sync.sync.reading.result import Customer

_SEARCHED_CHARS = 500
_MAX_TEXTS = 100
_MAX_COLUMNS = 50

_YEARS = re.compile(
    r"(?<![0-9])(?:(?:fy|gj|cy) ?'?)?(?:(?:19|20)[0-9]{2}(?:[-/](?:20)?[0-9]{2})?)(?![0-9])"
    r"|(?<![^\W_])(?:fy|gj) ?'?[0-9]{2}(?:[-/][0-9]{2})?(?![0-9])"
)


def years_in(texts: Iterable[str], fiscal_year: FiscalYear) -> tuple[str, ...]:
    """The different years, in the order in which they occur."""
    found: dict[str, None] = {}
    for _, text in zip(range(_MAX_TEXTS), texts, strict=False):
        folded = plain(text[:_SEARCHED_CHARS]).casefold().replace("_", " ")
        for match in _YEARS.finditer(folded):
            key = _year(match[0], fiscal_year)
            if key:
                found.setdefault(key)
    return tuple(found)


def _year(text: str, fiscal_year: FiscalYear) -> str | None:
    """The year that a text names; None for two years if the customer's year is a calendar year."""
    read = read_period(text, fiscal_year)
    if read.reason == "dash":
        read = read_period(text if text.startswith(("fy", "gj")) else f"FY{text}", fiscal_year)
    return read.key if read.key and len(read.key) == 4 else None


def other_year_note(
    grid: Grid, header_row: int, reading: Reading, customer: Customer
) -> str | None:
    """A note if the title has a year, but not the one that a person confirmed for the sheet.

    `header_row` is the sheet row of the upper header row. None if the sheet itself gives the year
    of each budget.
    """
    period = reading.period
    confirmed = period.constant if isinstance(period, PeriodConstant) else period.year
    if confirmed is None:
        return None
    key = read_period(confirmed, customer.fiscal_year).key
    above = (cell for row in grid.rows[: header_row - 1] for cell in row[:_MAX_COLUMNS])
    title = (str(cell) for cell in above if isinstance(cell, str | int | float))
    years = years_in(title, customer.fiscal_year)
    if key is None or not years or key[:4] in years:
        return None
    return (
        f"The title says {years[0]}, but {quoted(confirmed)} is confirmed for this sheet. If the "
        "sheet is for another year now, run reread-source."
    )
