"""The balances of departments for the overview, with the forecast of each."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, NamedTuple

from peewee import SQL, Case, fn

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database import approximate_sum, sums
from budget_sync.database.models import Budget, Customer
from budget_sync.domain.balance import Balance
from budget_sync.domain.forecast import Forecast, NoForecast, forecast, reason_for_none
from budget_sync.domain.periods import period_dates
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import as_of
from budget_sync.queries.balances import (
    AMOUNTS,
    BALANCE,
    IS_OVERDRAWN,
    live_budgets,
    total_balance,
)
from budget_sync.queries.budgets import BudgetLine
from budget_sync.queries.visible import visible

DEPARTMENTS_A_PAGE = 25

# The number of rows without the page's limit, selected next to each row.
_COUNT = fn.COUNT(SQL("*")).over()


class Department(NamedTuple):
    """The balance of a department's live budgets in one currency.

    `forecast` is that of its budget in the chosen period, None if there is none.
    """

    name: str
    key: str
    balance: Balance
    budgets: int
    overdrawn: int
    forecast: Forecast | None = None


class Departments(NamedTuple):
    """A page of departments out of `total`, and why they have no forecast, if they have none."""

    page: list[Department]
    total: int
    no_forecast: NoForecast | None


def departments_page(
    actor: Actor, customer: Customer, period_key: str | None, page: int
) -> Departments:
    """A page of departments of one period, or of all periods.

    If the period has a forecast, the departments that will run over come first, by how much. Then,
    and without a forecast, the most overdrawn and most used come first.
    """
    if period_key is None:
        return Departments(*_by_use(visible(live_budgets(customer.id), actor), page), None)
    budgets = visible(live_budgets(customer.id, period_key), actor)
    span = period_days(customer, period_key)
    reason = reason_for_none(*span, as_of.today_of(customer)) if span else NoForecast.NOT_DATED
    if span is None or reason is not None:
        return Departments(*_by_use(budgets, page), reason)
    found = sorted(_with_forecasts(customer, budgets, period_key, span), key=_order)
    start = (page - 1) * DEPARTMENTS_A_PAGE
    return Departments(found[start : start + DEPARTMENTS_A_PAGE], len(found), None)


def budget_forecast(actor: Actor, customer: Customer, line: BudgetLine) -> Forecast | NoForecast:
    """The forecast of one budget, or why it has none."""
    require_for(actor, Action.READ_BUDGETS, customer.id)
    span = period_days(customer, line.period_key)
    if span is None:
        return NoForecast.NOT_DATED
    before = _committed_before(customer, span[0], Budget.id == line.id).get(line.id, 0)
    return _forecast(customer, span, line.balance, before)


def period_days(customer: Customer, period_key: str) -> tuple[date, date] | None:
    """The first and the last day of a period; None if its dates are unknown."""
    dates = period_dates(period_key, fiscal_year_of(customer))
    return dates and (dates[0], dates[1] - timedelta(days=1))


def _forecast(
    customer: Customer, span: tuple[date, date], balance: Balance, before_minor: int
) -> Forecast | NoForecast:
    return forecast(
        *span,
        as_of.today_of(customer),
        committed_before_minor=before_minor,
        committed_within_minor=balance.committed_minor - before_minor,
        reserved_minor=balance.reserved_minor,
        budgeted_minor=balance.budgeted_minor,
    )


def _committed_before(customer: Customer, first: date, condition: Any) -> dict[str, int]:
    """What each budget had committed before a day, in minor units, by the budget's id."""
    start = as_of.midnight(first, customer)
    rows = as_of.rows_at(start, has_deleted=True).where(Budget.customerId == customer.id, condition)
    return {row[0]: row[9] for row in rows}


def _with_forecasts(
    customer: Customer, budgets: Any, period_key: str, span: tuple[date, date]
) -> list[Department]:
    """The departments of a period. A department has at most one live budget in it."""
    before = _committed_before(customer, span[0], Budget.periodKey == period_key)
    rows = budgets.select(Budget.id, Budget.department, Budget.departmentKey, *BALANCE)
    found = []
    for budget_id, name, key, *amounts in rows.tuples():
        balance = Balance(*amounts)
        expected = _forecast(customer, span, balance, before.get(budget_id, 0))
        is_over = balance.state == "overdrawn"
        known = expected if isinstance(expected, Forecast) else None
        found.append(Department(name, key, balance, 1, int(is_over), known))
    return found


def _order(department: Department) -> tuple[Any, ...]:
    balance, expected = department.balance, department.forecast
    over_minor = expected.over_minor if expected else 0
    share = balance.used_minor / (balance.budgeted_minor or 1)
    return -over_minor / 10**balance.exponent, -share, department.key, balance.currency


def _by_use(budgets: Any, page: int) -> tuple[list[Department], int]:
    """A page of departments, the most overdrawn and most used first, and their total number."""
    query = budgets.select(
        fn.MIN(Budget.department).alias("name"),
        Budget.departmentKey,
        Budget.currency,
        *sums(Budget.currencyExponent, *AMOUNTS),
        fn.COUNT(Budget.id),
        fn.SUM(Case(None, [(IS_OVERDRAWN, 1)], 0)).alias("overdrawn"),
        _COUNT,
    ).group_by(Budget.departmentKey, Budget.currency)
    budgeted, reserved, committed = (
        approximate_sum(Budget.currencyExponent, amount) for amount in AMOUNTS
    )
    share = (reserved + committed) / Case(None, [(budgeted == 0, 1)], budgeted)
    rows = list(
        query.order_by(SQL("overdrawn").desc(), share.desc(), Budget.departmentKey, Budget.currency)
        .paginate(page, DEPARTMENTS_A_PAGE)
        .tuples()
    )
    departments = [
        Department(name, key, total_balance(currency, parts), count, overdrawn)
        for name, key, currency, *parts, count, overdrawn, _ in rows
    ]
    return departments, rows[0][-1] if rows else 0
