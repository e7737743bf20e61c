"""Queries for the metrics: a few quick ones, over all real customers, run at each scrape."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from peewee import fn

from budget_sync.accounts import api_keys
from budget_sync.database import sums
from budget_sync.database.models import (
    Budget,
    BudgetDataSourceConfig,
    Customer,
    SyncHistory,
)
from budget_sync.domain import clock, events
from budget_sync.domain.balance import Balance
from budget_sync.domain.periods import FiscalYear, is_current
from budget_sync.queries.balances import (
    AMOUNTS,
    IS_OVERDRAWN,
    USED,
    live_budgets,
    total_balance,
)
from budget_sync.queries.sync_runs import FINISHED, WORKED


class CustomerBalance(NamedTuple):
    """The balance of all live budgets of a customer in one currency."""

    customer_id: str
    balance: Balance


#: Percentages of a budget: those of the events.
THRESHOLDS = events.THRESHOLDS


class ThresholdCount(NamedTuple):
    """The number of a customer's current budgets that are used to a threshold in percent."""

    customer_id: str
    threshold: int
    budgets: int


class SourceState(NamedTuple):
    """The age of a source's budgets, and the result of its latest sync run.

    `age_s` counts seconds since the end of the latest sync run with status success or partial, or
    since the source was added if there is none. `last_result` leaves out skipped runs; it is None
    before the first one.
    """

    customer_id: str
    source_id: str
    age_s: int
    last_result: str | None


def balances() -> list[CustomerBalance]:
    """The balance of every customer, by currency."""
    query: Any = (
        _counted_budgets()
        .select(Budget.customerId, Budget.currency, *sums(Budget.currencyExponent, *AMOUNTS))
        .group_by(Budget.customerId, Budget.currency)
        .order_by(Budget.customerId, Budget.currency)
    )
    return [
        CustomerBalance(customer_id, total_balance(currency, selected))
        for customer_id, currency, *selected in query.tuples()
    ]


def overdrawn() -> dict[str, int]:
    """The number of overdrawn live budgets, by customer id, for customers with live budgets."""
    query: Any = (
        _counted_budgets()
        .select(Budget.customerId, fn.COUNT(Budget.id).filter(IS_OVERDRAWN))
        .group_by(Budget.customerId)
        .order_by(Budget.customerId)
    )
    return dict(query.tuples())


def over_threshold() -> list[ThresholdCount]:
    """For each enabled customer with live budgets: the current ones used to each threshold.

    A budget is current if its period includes today, in the customer's time zone and fiscal year.
    A department may have a current quarter and a current year: both count.
    """
    query: Any = (
        _counted_budgets()
        .select(
            Customer.id,
            Customer.timeZone,
            Customer.fiscalYearStartMonth,
            Customer.fiscalYearNamedBy,
            Budget.periodKey,
            *(fn.COUNT(Budget.id).filter(_is_used_to(percent)) for percent in THRESHOLDS),
        )
        .join(Customer, on=(Customer.id == Budget.customerId))
        .where(Customer.disabledAt.is_null())
        .group_by(
            Customer.id,
            Customer.timeZone,
            Customer.fiscalYearStartMonth,
            Customer.fiscalYearNamedBy,
            Budget.periodKey,
        )
        .order_by(Customer.id)
    )
    now = clock.now()
    counts: Counter[tuple[str, int]] = Counter()
    for customer_id, time_zone, first_month, named_by, period_key, *used in query.tuples():
        today = now.astimezone(ZoneInfo(time_zone)).date()
        is_counted = is_current(period_key, FiscalYear(first_month, named_by), today)
        for threshold, budgets in zip(THRESHOLDS, used, strict=True):
            counts[customer_id, threshold] += budgets if is_counted else 0
    return [
        ThresholdCount(customer_id, threshold, budgets)
        for (customer_id, threshold), budgets in counts.items()
    ]


def _counted_budgets() -> Any:
    """The live budgets of all customers that are not test customers."""
    test = Customer.select(Customer.id).where(Customer.isTest)
    return live_budgets().where(Budget.customerId.not_in(test))


def _is_used_to(percent: int) -> Any:
    """Whether at least that share of a budget is used. A budget of 0 without use does not count.

    The share is rounded up to whole minor units. The used amount is not multiplied, because 100
    times as much may not fit into 64 bits.
    """
    return (USED > 0) & ((Budget.budgetedMinor * percent + 99) / 100 <= USED)


def expiring_keys() -> dict[str, int]:
    """The number of keys that expire soon, by customer id; "" for keys for all customers.

    Every enabled customer is in it, except test customers.
    """
    enabled = Customer.select(Customer.id).where(Customer.disabledAt.is_null(), ~Customer.isTest)
    counts = {customer.id: 0 for customer in enabled.order_by(Customer.id)}
    expiring = Counter(key.customerId or "" for key in api_keys.expiring_keys())
    return counts | {each: count for each, count in expiring.items() if each in counts or not each}


def sources() -> list[SourceState]:
    """The state of every active source of every enabled customer."""
    now = clock.now()
    query: Any = (
        BudgetDataSourceConfig.select(
            BudgetDataSourceConfig.customerId,
            BudgetDataSourceConfig.id,
            fn.COALESCE(
                _of_last_run(SyncHistory.endTime, WORKED), BudgetDataSourceConfig.createdAt
            ),
            _of_last_run(SyncHistory.status, FINISHED),
        )
        .join(Customer, on=(Customer.id == BudgetDataSourceConfig.customerId))
        .where(
            BudgetDataSourceConfig.isActive,
            BudgetDataSourceConfig.removedAt.is_null(),
            Customer.disabledAt.is_null(),
            ~Customer.isTest,
        )
        .order_by(BudgetDataSourceConfig.customerId, BudgetDataSourceConfig.id)
    )
    return [
        SourceState(
            customer_id,
            source_id,
            int((now - clock.from_text(fresh_at)).total_seconds()),
            last_result,
        )
        for customer_id, source_id, fresh_at, last_result in query.tuples()
    ]


def _of_last_run(column: Any, statuses: tuple[str, ...]) -> Any:
    """A column of the source's latest sync run with one of these statuses, as a subquery.

    One query for all sources; `sync_runs.last_run` is the same for a single source.
    """
    return (
        SyncHistory.select(column)
        .where(
            (SyncHistory.sourceId == BudgetDataSourceConfig.id) & SyncHistory.status.in_(statuses)
        )
        .order_by(SyncHistory.id.desc())
        .limit(1)
    )
