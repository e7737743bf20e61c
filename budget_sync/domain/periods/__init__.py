"""Fiscal periods: one key for all spellings, so that "Q1 2025", "2025-Q1" and "q1 fy2025" match.

Keys are "2025" (the fiscal year that the customer calls 2025), "2025-H1" and "2025-Q1" (its halves
and quarters) and "2025-01" (a calendar month). `words` splits a text into tokens, `parse` finds
its form, `read` turns the form into a key, and `settle` looks at all values of a column.
"""

from __future__ import annotations

from budget_sync.domain.names import fold
from budget_sync.domain.periods.fiscal_year import (
    NAMED_BY,
    FiscalYear,
    is_current,
    is_period_key,
    period_dates,
    year_before,
)
from budget_sync.domain.periods.read import (
    PROBLEMS,
    PeriodError,
    PeriodText,
    Settled,
    api_period_key,
    is_same_for_all,
    read_period,
    read_year_and_part,
)
from budget_sync.domain.periods.requests import field_problem, requested_period_key
from budget_sync.domain.periods.settle import is_romance, settle, unsettled
from budget_sync.domain.periods.words import MAX_FORM_LENGTH

__all__ = [
    "MAX_FORM_LENGTH",
    "NAMED_BY",
    "PROBLEMS",
    "FiscalYear",
    "PeriodError",
    "PeriodText",
    "Settled",
    "api_period_key",
    "field_problem",
    "fold",
    "is_current",
    "is_period_key",
    "is_romance",
    "is_same_for_all",
    "period_dates",
    "period_key",
    "read_period",
    "read_year_and_part",
    "requested_period_key",
    "settle",
    "unsettled",
    "year_before",
]


_CALENDAR_YEAR = FiscalYear()


def period_key(text: str, fiscal_year: FiscalYear = _CALENDAR_YEAR) -> str:
    """The key of a period, or the folded text if it has none."""
    return read_period(text, fiscal_year).key or fold(text)
