"""Periods side by side: the balance of each department in each chosen period."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database.models import Customer
from budget_sync.domain.balance import Balance, added_up
from budget_sync.domain.names import fold
from budget_sync.domain.periods import is_current, period_dates, year_before
from budget_sync.domain.permissions import Actor
from budget_sync.queries.as_of import PastDay, lines_at, today_of
from budget_sync.queries.budgets import BudgetLine, BudgetQuery, budgets_export


class ComparedPeriod(NamedTuple):
    """A period to choose. `key` is its normalized spelling."""

    key: str
    name: str


class ComparedRow(NamedTuple):
    """The balances of a department in one currency, by the key of the period."""

    name: str
    currency: str
    balances: Mapping[str, Balance]


class Comparison(NamedTuple):
    """Departments by periods.

    `periods` are all periods that have budgets, `chosen` those that are shown; both oldest first.
    `totals` has a row for each currency, and `lines` the budgets of the chosen periods.
    """

    periods: list[ComparedPeriod]
    chosen: list[ComparedPeriod]
    rows: list[ComparedRow]
    totals: list[ComparedRow]
    lines: list[BudgetLine]


def comparison(
    actor: Actor, customer: Customer, keys: Sequence[str] = (), day: PastDay | None = None
) -> Comparison:
    """The chosen periods side by side, of today or as of a past day.

    Without a known key, the current period and the same period of the year before are chosen.
    """
    lines = (
        budgets_export(actor, customer.id, BudgetQuery())
        if day is None
        else lines_at(actor, customer.id, day)
    )
    today = day.day if day else today_of(customer)
    periods = _periods(lines, customer)
    wanted = set(keys) & {period.key for period in periods}
    if not wanted:
        wanted = _current_and_before(lines, customer, today)
    chosen = [period for period in periods if period.key in wanted]
    shown = [line for line in lines if line.period_key in wanted]
    return Comparison(periods, chosen, _rows(shown), _totals(shown), shown)


def _periods(lines: Sequence[BudgetLine], customer: Customer) -> list[ComparedPeriod]:
    """The periods of budgets by their first day, the longer first; then those without dates."""
    names = {line.period_key: line.period for line in lines}
    fiscal_year = fiscal_year_of(customer)

    def order(key: str) -> tuple[bool, date, int, str]:
        dates = period_dates(key, fiscal_year)
        if dates is None:
            return True, date.max, 0, key
        return False, dates[0], -(dates[1] - dates[0]).days, key

    return [ComparedPeriod(key, names[key]) for key in sorted(names, key=order)]


def _current_and_before(lines: Sequence[BudgetLine], customer: Customer, today: date) -> set[str]:
    """The keys of the current period with the most budgets, and of the same a year before."""
    counts: dict[str, int] = defaultdict(int)
    fiscal_year = fiscal_year_of(customer)
    for line in lines:
        if is_current(line.period_key, fiscal_year, today):
            counts[line.period_key] += 1
    if not counts:
        return set()
    current = max(counts, key=lambda key: (counts[key], key))
    return {key for key in (current, year_before(current)) if key is not None}


def _rows(lines: Sequence[BudgetLine]) -> list[ComparedRow]:
    """A row for each department and currency, by name."""
    names: dict[tuple[str, str], str] = {}
    balances: dict[tuple[str, str], dict[str, Balance]] = defaultdict(dict)
    for line in lines:
        # A department has at most one live budget in a period.
        row = fold(line.department), line.balance.currency
        names.setdefault(row, line.department)
        balances[row][line.period_key] = line.balance
    return [ComparedRow(names[row], row[1], balances[row]) for row in sorted(names)]


def _totals(lines: Sequence[BudgetLine]) -> list[ComparedRow]:
    found: dict[str, dict[str, list[Balance]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        found[line.balance.currency][line.period_key].append(line.balance)
    return [
        ComparedRow(
            f"Total in {currency}",
            currency,
            {key: added_up(balances) for key, balances in found[currency].items()},
        )
        for currency in sorted(found)
    ]
