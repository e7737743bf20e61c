"""The four monitoring metrics of the integration guide, for `flask stats`."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database import snapshot, sums
from budget_sync.database.models import Budget, BudgetCheckLog, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.queries.balances import AMOUNTS, live_budgets, total_balance
from budget_sync.queries.sync_runs import FINISHED, WORKED


class Utilization(NamedTuple):
    """The balance of a department's live budgets in one currency. Amounts are in whole units."""

    department: str
    balance: Balance

    @property
    def currency(self) -> str:
        """The ISO code."""
        return self.balance.currency

    @property
    def total(self) -> int | Decimal:
        """The budgeted amount."""
        return self.balance.number(self.balance.budgeted_minor)

    @property
    def used(self) -> int | Decimal:
        """Reserved and committed together."""
        return self.balance.number(self.balance.used_minor)

    @property
    def available(self) -> int | Decimal:
        """Negative if the budgets are overdrawn."""
        return self.balance.number(self.balance.available_minor)


class Stats(NamedTuple):
    """The guide's four metrics. Rates are percentages, None if there was nothing to count.

    `sync_runs` leaves out skipped runs. `sync_success_rate` includes partial runs, which applied
    all good rows; `sync_partial_rate` is their share of all runs. The guide's SQL counts a partial
    run as a failure, so one rejected row would make its rate 0.
    """

    checks: int
    check_success_rate: float | None
    average_response_ms: float | None
    sync_runs: int
    sync_success_rate: float | None
    sync_partial_rate: float | None
    utilization: list[Utilization]


def load_stats(actor: Actor, customer_id: str | None = None) -> Stats:
    """Checks of 24 hours, sync runs of 7 days, and each department's current utilization."""
    require(actor, Action.READ_AUDIT)
    customer = actor.customer_id or customer_id
    now = clock.now()
    checks = BudgetCheckLog.select(
        fn.COUNT(BudgetCheckLog.id),
        fn.SUM(BudgetCheckLog.available.cast("INTEGER")),
        fn.AVG(BudgetCheckLog.durationMs),
    ).where(BudgetCheckLog.timestamp > now - timedelta(hours=24))
    sync_runs = (
        SyncHistory.select(SyncHistory.status, fn.COUNT(SyncHistory.id))
        .where(SyncHistory.startTime > now - timedelta(days=7), SyncHistory.status.in_(FINISHED))
        .group_by(SyncHistory.status)
    )
    departments = (
        live_budgets(customer)
        .select(
            fn.MIN(Budget.department),
            Budget.currency,
            *sums(Budget.currencyExponent, *AMOUNTS),
        )
        .group_by(Budget.customerId, Budget.departmentKey, Budget.currency)
        .order_by(Budget.customerId, Budget.departmentKey, Budget.currency)
    )
    if customer is not None:
        checks = checks.where(BudgetCheckLog.customerId == customer)
        sync_runs = sync_runs.where(SyncHistory.customerId == customer)
    with snapshot():
        check_count, available_count, average_ms = _rows(checks)[0]
        runs_by_status: dict[str, int] = dict(_rows(sync_runs))
        utilization = [
            Utilization(department, total_balance(currency, selected))
            for department, currency, *selected in _rows(departments)
        ]
    run_count = sum(runs_by_status.values())
    worked_count = sum(runs_by_status.get(status, 0) for status in WORKED)
    partial_count = runs_by_status.get("partial", 0)
    return Stats(
        checks=check_count,
        check_success_rate=100 * available_count / check_count if check_count else None,
        average_response_ms=None if average_ms is None else float(average_ms),
        sync_runs=run_count,
        sync_success_rate=100 * worked_count / run_count if run_count else None,
        sync_partial_rate=100 * partial_count / run_count if run_count else None,
        utilization=utilization,
    )


def _rows(query: Any) -> list[Any]:
    """A query's rows as tuples, typed Any because Peewee's stubs do not know their types."""
    return list(query.tuples())
