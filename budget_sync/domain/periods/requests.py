"""Periods in requests: a text that is not a period is an error of the call."""

from __future__ import annotations

from budget_sync.domain.errors import invalid_request
from budget_sync.domain.periods.fiscal_year import FiscalYear
from budget_sync.domain.periods.read import PeriodError, api_period_key


def requested_period_key(text: str, fiscal_year: FiscalYear) -> str:
    """The key of a period in a request, as `api_period_key`.

    Raises RequestError INVALID_REQUEST, which says what is wrong with the text.
    """
    try:
        return api_period_key(text, fiscal_year)
    except PeriodError as error:
        raise invalid_request({"fiscalPeriod": field_problem(error)}) from None


def field_problem(error: PeriodError) -> str:
    """The problem of a period, as that of a field: it follows the field's name."""
    return f"{error.text!r} {error.problem.removesuffix('.')}"
