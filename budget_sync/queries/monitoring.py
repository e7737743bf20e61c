"""Queries for the metrics: a few quick ones, over all customers, run at each scrape."""

from __future__ import annotations

from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database import sums
from budget_sync.database.models import Budget, BudgetDataSourceConfig, Customer, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.queries.balances import AMOUNTS, IS_OVERDRAWN, live_budgets, total_balance
from budget_sync.queries.sync_runs import FINISHED, WORKED


class CustomerBalance(NamedTuple):
    """The balance of all live budgets of a customer in one currency."""

    customer_id: str
    balance: Balance


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
        live_budgets()
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
        live_budgets()
        .select(Budget.customerId, fn.COUNT(Budget.id).filter(IS_OVERDRAWN))
        .group_by(Budget.customerId)
        .order_by(Budget.customerId)
    )
    return dict(query.tuples())


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
