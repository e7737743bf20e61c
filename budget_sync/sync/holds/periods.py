"""Which periods share days with periods whose budgets are held. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from datetime import date

from budget_sync.domain.periods import FiscalYear, period_dates


class Spans:
    """Periods: the same money may be under another period that shares days with one of them.

    The budgets of a year that becomes four quarters would otherwise be there twice.
    """

    def __init__(self, keys: Iterable[str], fiscal_year: FiscalYear) -> None:
        self._fiscal_year = fiscal_year
        self._keys = set(keys)
        self._found: dict[str, bool] = {}
        # Their days as few spans, in order: first days, and the days after the last ones.
        self._starts: list[date] = []
        self._ends: list[date] = []
        for start, end in sorted(filter(None, map(self._dates, self._keys))):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(end, self._ends[-1])
            else:
                self._starts.append(start)
                self._ends.append(end)

    def overlap(self, key: str) -> bool:
        """Whether a period is one of these, or shares days with one."""
        if not self._keys:
            return False
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = key in self._keys or self._shares_days(key)
        return found

    def _shares_days(self, key: str) -> bool:
        dates = self._dates(key)
        if dates is None:
            return False
        # The last span that begins before the period ends.
        place = bisect_left(self._starts, dates[1]) - 1
        return place >= 0 and self._ends[place] > dates[0]

    def _dates(self, key: str) -> tuple[date, date] | None:
        try:
            return period_dates(key, self._fiscal_year)
        except (ValueError, OverflowError):
            return None
