"""The integration guide's four monitoring figures."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database import snapshot, sums, whole_sums
from budget_sync.database.models import Budget, BudgetCheckLog, BudgetUtilization, SyncHistory
from budget_sync.domain import clock
from budget_sync.domain.money import to_number
from budget_sync.domain.permissions import Action, Actor, require


class Utilization(NamedTuple):
    """What a department's live budgets add up to, in whole units of one currency."""

    department: str
    currency: str
    total: int | Decimal
    used: int | Decimal
    available: int | Decimal


class Stats(NamedTuple):
    """The guide's four monitoring figures. Rates are percentages, None where there was nothing to count."""

    checks: int
    check_success_rate: float | None
    average_response_ms: float | None
    passes: int
    sync_success_rate: float | None
    utilization: list[Utilization]


def load_stats(actor: Actor, customer_id: str | None = None) -> Stats:
    """Checks of the last 24 hours, passes of the last 7 days, and the utilisation of each department as it is now."""
    require(actor, Action.READ_AUDIT)
    customer = actor.customer_id or customer_id
    now = clock.now()
    checks = BudgetCheckLog.select(
        fn.COUNT(BudgetCheckLog.id),
        fn.SUM(BudgetCheckLog.available.cast("INTEGER")),
        fn.AVG(BudgetCheckLog.durationMs),
    ).where(BudgetCheckLog.timestamp > now - timedelta(hours=24))
    passes = (
        SyncHistory.select(SyncHistory.status, fn.COUNT(SyncHistory.id))
        .where(SyncHistory.startTime > now - timedelta(days=7))
        .group_by(SyncHistory.status)
    )
    budgets = (
        Budget.select(
            fn.MIN(Budget.department),
            Budget.currency,
            *sums(
                Budget.currencyExponent,
                Budget.budgetedMinor,
                BudgetUtilization.reservedMinor + BudgetUtilization.committedMinor,
            ),
        )
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .where(Budget.deletedAt.is_null())
        .group_by(Budget.customerId, Budget.departmentKey, Budget.currency)
        .order_by(Budget.customerId, Budget.departmentKey, Budget.currency)
    )
    if customer is not None:
        checks = checks.where(BudgetCheckLog.customerId == customer)
        passes = passes.where(SyncHistory.customerId == customer)
        budgets = budgets.where(Budget.customerId == customer)
    with snapshot():
        count, available, average_ms = _rows(checks)[0]
        by_status: dict[str, int] = dict(_rows(passes))
        rows = _rows(budgets)
    pass_count = sum(by_status.values())
    return Stats(
        checks=count,
        check_success_rate=100 * available / count if count else None,
        average_response_ms=None if average_ms is None else float(average_ms),
        passes=pass_count,
        sync_success_rate=100 * by_status.get("success", 0) / pass_count if pass_count else None,
        utilization=[
            Utilization(
                department,
                currency,
                to_number(total, exponent),
                to_number(used, exponent),
                to_number(total - used, exponent),
            )
            for department, currency, *selected in rows
            for exponent, (total, used) in [whole_sums(selected)]
        ],
    )


def _rows(query: Any) -> list[Any]:
    """A query's rows as tuples, whose types Peewee's stubs do not know."""
    return list(query.tuples())
