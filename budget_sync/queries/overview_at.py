"""The totals and departments of the overview as of the end of a past day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database.models import Customer
from budget_sync.domain.balance import added_up
from budget_sync.domain.names import fold
from budget_sync.domain.periods import is_current
from budget_sync.domain.permissions import Actor
from budget_sync.queries.as_of import PastDay, lines_at
from budget_sync.queries.budgets import BudgetLine
from budget_sync.queries.departments import Department
from budget_sync.queries.overview import ALL_PERIODS, Period, Total


class OverviewAt(NamedTuple):
    """The budgets that were live at the end of a day: of one period, or of all."""

    periods: list[Period]
    period: Period | None
    totals: list[Total]
    departments: list[Department]


def overview_at(actor: Actor, customer: Customer, day: PastDay, chosen_key: str = "") -> OverviewAt:
    """The overview as of a day, of the period with key `chosen_key` or of ALL_PERIODS.

    For any other key, the period that was current on that day; if there was none, all periods.
    """
    lines = lines_at(actor, customer.id, day)
    periods = _periods(lines)
    period = next((each for each in periods if each.key == chosen_key), None)
    if period is None and chosen_key != ALL_PERIODS:
        fiscal_year = fiscal_year_of(customer)
        current = (each for each in periods if is_current(each.key, fiscal_year, day.day))
        period = max(current, key=lambda each: each.budgets, default=None)
    shown = [line for line in lines if period is None or line.period_key == period.key]
    return OverviewAt(periods, period, _totals(shown), _departments(shown))


def _periods(lines: Iterable[BudgetLine]) -> list[Period]:
    """The periods of budgets, latest first."""
    found = defaultdict(list)
    for line in lines:
        found[line.period_key].append(line.period)
    return [Period(key, min(found[key]), len(found[key])) for key in sorted(found, reverse=True)]


def _totals(lines: Iterable[BudgetLine]) -> list[Total]:
    """The total of each currency, starting with the currency of the most budgets."""
    found = defaultdict(list)
    for line in lines:
        found[line.balance.currency].append(line)
    return [
        Total(
            added_up(line.balance for line in of_currency),
            len(of_currency),
            sum(line.state == "overdrawn" for line in of_currency),
            sum(line.state == "high" for line in of_currency),
        )
        for _, of_currency in sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))
    ]


def _departments(lines: Iterable[BudgetLine]) -> list[Department]:
    """The balance of each department and currency, the most overdrawn and most used first."""
    found = defaultdict(list)
    for line in lines:
        found[fold(line.department), line.balance.currency].append(line)
    departments = [
        Department(
            min(line.department for line in of_key),
            key,
            added_up(line.balance for line in of_key),
            len(of_key),
            sum(line.state == "overdrawn" for line in of_key),
        )
        for (key, _), of_key in found.items()
    ]
    return sorted(
        departments,
        key=lambda each: (
            -each.overdrawn,
            -each.balance.used_minor / (each.balance.budgeted_minor or 1),
            each.key,
            each.balance.currency,
        ),
    )
