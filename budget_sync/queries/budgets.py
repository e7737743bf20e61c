"""Budgets: found, sorted, and where one of them stood over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from peewee import SQL, Case, fn

from budget_sync.database.models import AuditLog, Budget, BudgetUtilization
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.periods import fold
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import paging
from budget_sync.queries.overview import IS_HIGH, IS_OVERDRAWN, USED, whole


class BudgetLine(NamedTuple):
    """A budget, its balances, and where it comes from."""

    id: str
    department: str
    period: str
    period_key: str
    figures: Balance
    limit_minor: int | None
    deleted_at: datetime | None
    source_id: str | None
    source_row: int | None
    external_id: str | None
    updated_at: datetime

    @property
    def state(self) -> str:
        """deleted, overdrawn, high or ok."""
        return "deleted" if self.deleted_at else self.figures.state

    @property
    def name(self) -> str:
        """How people name it."""
        return f"{self.department}, {self.period}"


BUDGET_STATES = ("live", "overdrawn", "high", "deleted")
_ORDERS: dict[str, tuple[Any, ...]] = {
    "department": (Budget.departmentKey, Budget.periodKey),
    "period": (Budget.periodKey, Budget.departmentKey),
    "budgeted": (whole(Budget.budgetedMinor),),
    "reserved": (whole(BudgetUtilization.reservedMinor),),
    "committed": (whole(BudgetUtilization.committedMinor),),
    "available": (whole(Budget.budgetedMinor - USED),),
    "used": (USED * 1.0 / Case(None, [(Budget.budgetedMinor == 0, 1)], Budget.budgetedMinor),),
}
BUDGET_ORDERS = tuple(_ORDERS)


@dataclass(frozen=True, slots=True)
class BudgetQuery:
    """Which budgets, and in which order. `order` is one of BUDGET_ORDERS, "-" before it for descending."""

    text: str = ""
    period_key: str = ""
    state: str = "live"
    order: str = "department"
    page: int = 1


def budgets_page(
    actor: Actor, customer_id: str, query: BudgetQuery
) -> tuple[list[BudgetLine], int]:
    """A page of budgets, and how many there are in all."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    rows = _found(customer_id, query)
    return [
        to_line(row) for row in _ordered(rows, query.order).paginate(query.page, paging.PAGE_SIZE)
    ], rows.count()


def budgets_export(actor: Actor, customer_id: str, query: BudgetQuery) -> list[BudgetLine]:
    """All budgets that a query finds."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    return [to_line(row) for row in _ordered(_found(customer_id, query), query.order)]


def budget_line(actor: Actor, customer_id: str, budget_id: str) -> BudgetLine:
    """One budget, deleted ones included. Raises RequestError BUDGET_NOT_FOUND."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    row = rows().where(Budget.id == budget_id, Budget.customerId == customer_id).first()
    if row is None:
        raise RequestError(
            Code.BUDGET_NOT_FOUND, "There is no budget of that id.", budgetId=budget_id
        )
    return to_line(row)


def rows() -> Any:
    """The query for budgets, in tuples that `to_line` takes."""
    return (
        Budget.select(
            Budget.id,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.periodKey,
            Budget.currency,
            Budget.currencyExponent,
            Budget.budgetedMinor,
            BudgetUtilization.reservedMinor,
            BudgetUtilization.committedMinor,
            Budget.autoApproveLimitMinor,
            Budget.deletedAt,
            Budget.sourceId,
            Budget.sourceRow,
            Budget.externalId,
            Budget.updatedAt,
        )
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .tuples()
    )


def to_line(row: Any) -> BudgetLine:
    """A row of `rows`."""
    return BudgetLine._make([*row[:4], Balance(*row[4:9]), *row[9:]])


def _found(customer_id: str, query: BudgetQuery) -> Any:
    found = rows().where(
        Budget.customerId == customer_id, Budget.deletedAt.is_null(query.state != "deleted")
    )
    if query.state in ("overdrawn", "high"):
        found = found.where(IS_OVERDRAWN if query.state == "overdrawn" else IS_HIGH)
    if query.period_key:
        found = found.where(Budget.periodKey == query.period_key)
    text = query.text.strip()
    if text:
        found = found.where(
            Budget.departmentKey.contains(fold(text))
            | Budget.id.contains(text)
            | Budget.externalId.contains(text)
        )
    return found


def _ordered(found: Any, order: str) -> Any:
    columns = _ORDERS.get(order.removeprefix("-"), _ORDERS["department"])
    descending = order.startswith("-")
    return found.order_by(
        *(column.desc() if descending else column.asc() for column in columns), Budget.id
    )


class Point(NamedTuple):
    """Where a budget stood from a moment on."""

    at: datetime
    figures: Balance


def burn_down(actor: Actor, customer_id: str, budget: BudgetLine) -> list[Point]:
    """Where a budget stood, hour by hour as it changed: its audit log replayed."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    # An hour, as its first 13 characters: a budget may have had many movements, and a chart has few pixels.
    hour = fn.SUBSTR(AuditLog.createdAt.cast("TEXT"), SQL("1"), SQL("13"))
    changes: Any = (
        AuditLog.select(
            hour,
            fn.SUM(AuditLog.budgetedDeltaMinor),
            fn.SUM(AuditLog.reservedDeltaMinor),
            fn.SUM(AuditLog.committedDeltaMinor),
        )
        .where(AuditLog.budgetId == budget.id, paging.unindexed(AuditLog.customerId) == customer_id)
        .group_by(hour)
        .order_by(hour)
        .tuples()
    )
    points: list[Point] = []
    budgeted = reserved = committed = 0
    for text, *deltas in changes:
        budgeted, reserved, committed = (
            budgeted + deltas[0],
            reserved + deltas[1],
            committed + deltas[2],
        )
        # PostgreSQL writes a space between day and hour.
        at = datetime.strptime(text.replace(" ", "T"), "%Y-%m-%dT%H").replace(tzinfo=UTC)
        points.append(
            Point(
                at,
                Balance(
                    budget.figures.currency, budget.figures.exponent, budgeted, reserved, committed
                ),
            )
        )
    return points
