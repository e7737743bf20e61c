"""Our own headings: a template for a sheet, and its reading. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from budget_sync.sync.reading.model import (
    Amount,
    CsvFormat,
    CurrencyColumn,
    Department,
    PeriodColumn,
    Reading,
)

DEPARTMENT = "Department"
PERIOD = "Fiscal Period"
AMOUNT = "Budgeted Amount"
BUDGET_ID = "Budget ID"
CURRENCY = "Currency"
LIMIT = "Auto-Approve Limit"

#: The headings of a sheet that needs no questions. The last three are optional.
HEADINGS = (DEPARTMENT, PERIOD, AMOUNT, BUDGET_ID, CURRENCY, LIMIT)


def standard_reading(optional: Sequence[str] = (), *, is_csv: bool = True) -> Reading:
    """The reading of a sheet with our headings; `optional` are those of the last three it has."""
    return Reading(
        file=CsvFormat() if is_csv else None,
        department=Department(column=DEPARTMENT),
        period=PeriodColumn(column=PERIOD),
        amount=Amount(columns=(AMOUNT,)),
        id=BUDGET_ID if BUDGET_ID in optional else None,
        limit=LIMIT if LIMIT in optional else None,
        currency=CurrencyColumn(column=CURRENCY) if CURRENCY in optional else None,
    )


def template(year: int) -> str:
    """A CSV file to start from, with two departments as an example."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [
            (BUDGET_ID, DEPARTMENT, PERIOD, AMOUNT, LIMIT),
            (f"ENG-{year}-Q1", "Engineering", f"Q1 {year}", 100_000, 5_000),
            (f"MKT-{year}-Q1", "Marketing", f"Q1 {year}", 40_000, 1_000),
        ]
    )
    return text.getvalue()
