"""The overview page: totals, departments, and how checks were decided."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from peewee import SQL, Case, fn

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database import Prepared, snapshot, sums
from budget_sync.database.models import (
    Budget,
    BudgetCheckLog,
    Customer,
)
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code
from budget_sync.domain.forecast import NoForecast
from budget_sync.domain.periods import is_current
from budget_sync.domain.permissions import Action, Actor, require_for, scope_of
from budget_sync.queries.balances import (
    AMOUNTS,
    IS_HIGH,
    IS_OVERDRAWN,
    live_budgets,
    total_balance,
)
from budget_sync.queries.departments import Department, departments_page
from budget_sync.queries.paging import unindexed
from budget_sync.queries.visible import visible

DECISION_DAYS = 30

# The number of rows without the page's limit, selected next to each row.
_COUNT = fn.COUNT(SQL("*")).over()


class Period(NamedTuple):
    """A fiscal period of live budgets. `key` is its normalized spelling."""

    key: str
    name: str
    budgets: int


class Total(NamedTuple):
    """The balance of all live budgets in one currency."""

    balance: Balance
    budgets: int
    overdrawn: int
    high: int


class Day(NamedTuple):
    """The number of checks on one day in the customer's time zone, by their answer."""

    day: date
    auto_approved: int
    needs_approval: int
    not_covered: int

    @property
    def total(self) -> int:
        """The number of all checks."""
        return self.auto_approved + self.needs_approval + self.not_covered


class Overview(NamedTuple):
    """A customer's live budgets at one moment: of one period, or of all if `period` is None.

    `departments` is one page out of `department_count`. `no_forecast` says why they have no
    forecast, if they have none. `days` is None if the caller may not read how checks were decided.
    """

    periods: list[Period]
    period: Period | None
    totals: list[Total]
    departments: list[Department]
    department_count: int
    no_forecast: NoForecast | None
    days: list[Day] | None


#: The value of `chosen_key` for all periods.
ALL_PERIODS = "all"


def overview(actor: Actor, customer: Customer, chosen_key: str = "", page: int = 1) -> Overview:
    """The overview of the period with key `chosen_key`, or of ALL_PERIODS.

    For any other key, the overview of the current period; if there is none, of all periods.
    """
    require_for(actor, Action.READ_BUDGETS, customer.id)
    with snapshot():
        known = _periods(actor, customer.id)
        period = next((each for each in known if each.key == chosen_key), None)
        if period is None and chosen_key != ALL_PERIODS:
            period = _current(known, customer)
        budgets = visible(live_budgets(customer.id, period and period.key), actor)
        departments = departments_page(actor, customer, period and period.key, page)
        return Overview(
            periods=known,
            period=period,
            totals=_totals(budgets),
            departments=departments.page,
            department_count=departments.total,
            no_forecast=departments.no_forecast,
            days=_decisions(customer) if scope_of(actor, Action.READ_AUDIT) else None,
        )


def periods(actor: Actor, customer_id: str) -> list[Period]:
    """The periods of the live budgets that the caller may read, latest first."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    return _periods(actor, customer_id)


def _periods(actor: Actor, customer_id: str) -> list[Period]:
    rows: Any = (
        visible(
            Budget.select(Budget.periodKey, fn.MIN(Budget.fiscalPeriod), fn.COUNT(Budget.id)), actor
        )
        .where(Budget.customerId == customer_id, Budget.deletedAt.is_null())
        .group_by(Budget.periodKey)
        .order_by(Budget.periodKey.desc())
        .tuples()
    )
    return list(map(Period._make, rows))


def _current(known: list[Period], customer: Customer) -> Period | None:
    """Today's period; of several (a quarter and its year), the one with the most budgets."""
    today = clock.now().astimezone(ZoneInfo(customer.timeZone)).date()
    fiscal_year = fiscal_year_of(customer)
    return max(
        (period for period in known if is_current(period.key, fiscal_year, today)),
        key=lambda period: period.budgets,
        default=None,
    )


def _totals(budgets: Any) -> list[Total]:
    """The total of each currency, starting with the currency of the most budgets."""
    query = (
        budgets.select(
            Budget.currency,
            *sums(Budget.currencyExponent, *AMOUNTS),
            fn.COUNT(Budget.id),
            fn.SUM(Case(None, [(IS_OVERDRAWN, 1)], 0)),
            fn.SUM(Case(None, [(IS_HIGH, 1)], 0)),
        )
        .group_by(Budget.currency)
        .order_by(fn.COUNT(Budget.id).desc(), Budget.currency)
    )
    return [
        Total(total_balance(currency, parts), count, overdrawn, high)
        for currency, *parts, count, overdrawn, high in query.tuples()
    ]


# This uses the index of times. The database would prefer an index that begins with the customer,
# and then read all of the customer's checks.
_DAY = Prepared(
    lambda value: BudgetCheckLog.select(
        fn.COUNT(BudgetCheckLog.code),
        fn.SUM(Case(None, [(BudgetCheckLog.code == Code.AUTO_APPROVED, 1)], 0)),
        fn.SUM(Case(None, [(BudgetCheckLog.code == Code.REQUIRES_APPROVAL, 1)], 0)),
    ).where(
        BudgetCheckLog.timestamp >= value.begin,
        BudgetCheckLog.timestamp < value.end,
        unindexed(BudgetCheckLog.customerId) == value.customer_id,
    )
)


def _decisions(customer: Customer) -> list[Day]:
    """The checks of the last DECISION_DAYS, oldest day first, including days without checks."""
    zone = ZoneInfo(customer.timeZone)
    today = clock.now().astimezone(zone).date()
    return [
        _decisions_of(customer.id, today - timedelta(days=ago), zone)
        for ago in range(DECISION_DAYS - 1, -1, -1)
    ]


def _decisions_of(customer_id: str, day: date, zone: ZoneInfo) -> Day:
    # A day in the customer's time zone may have 23 or 25 hours.
    begin, end = (
        clock.to_text(datetime(each.year, each.month, each.day, tzinfo=zone))
        for each in (day, day + timedelta(days=1))
    )
    count, auto, manual = _DAY.first(begin=begin, end=end, customer_id=customer_id)
    return Day(day, auto or 0, manual or 0, count - (auto or 0) - (manual or 0))
