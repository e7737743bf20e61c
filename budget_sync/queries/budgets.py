"""Budgets: search and sort, one budget, and its balance over time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from peewee import SQL, Case, fn

from budget_sync.accounts import customers
from budget_sync.database import combine_sums, sums
from budget_sync.database.models import AuditLog, Budget, BudgetUtilization
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.names import fold
from budget_sync.domain.periods import PeriodError, api_period_key, field_problem
from budget_sync.domain.permissions import Action, Actor, require, require_for
from budget_sync.queries import paging
from budget_sync.queries.balances import BALANCE, IS_HIGH, IS_OVERDRAWN, USED, in_whole_units
from budget_sync.queries.visible import visible


class BudgetLine(NamedTuple):
    """A budget, its balance, and its row in the source."""

    id: str
    customer_id: str
    department: str
    period: str
    period_key: str
    balance: Balance
    auto_approve_limit_minor: int | None
    deleted_at: datetime | None
    source_id: str | None
    source_row: int | None
    external_id: str | None
    updated_at: datetime
    owner_email: str | None

    @property
    def state(self) -> str:
        """`deleted`, or the state of the balance: `overdrawn`, `high` or `ok`."""
        return "deleted" if self.deleted_at else self.balance.state

    @property
    def name(self) -> str:
        """The budget's name for people: "Legal, Q1 2025"."""
        return f"{self.department}, {self.period}"


BUDGET_STATES = ("live", "overdrawn", "high", "deleted")
_ORDERS: dict[str, tuple[Any, ...]] = {
    "department": (Budget.departmentKey, Budget.periodKey),
    "period": (Budget.periodKey, Budget.departmentKey),
    "budgeted": (in_whole_units(Budget.budgetedMinor),),
    "reserved": (in_whole_units(BudgetUtilization.reservedMinor),),
    "committed": (in_whole_units(BudgetUtilization.committedMinor),),
    "available": (in_whole_units(Budget.budgetedMinor - USED),),
    "used": (USED * 1.0 / Case(None, [(Budget.budgetedMinor == 0, 1)], Budget.budgetedMinor),),
}
BUDGET_ORDERS = tuple(_ORDERS)


@dataclass(frozen=True, slots=True)
class BudgetQuery:
    """A search for budgets. `order` is one of BUDGET_ORDERS, after a "-" for descending.

    With `target_of`, only the budgets to which money of that budget can move: the others in its
    currency.
    """

    text: str = ""
    period_key: str = ""
    state: str = "live"
    order: str = "department"
    page: int = 1
    target_of: BudgetLine | None = None


def budgets_page(
    actor: Actor, customer_id: str, query: BudgetQuery
) -> tuple[list[BudgetLine], int]:
    """A page of budgets, and the total number of budgets that match."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    found = _found(actor, customer_id, query)
    page = _ordered(found, query.order).paginate(query.page, paging.PAGE_SIZE)
    return [to_line(row) for row in page], found.count()


def budgets_export(actor: Actor, customer_id: str, query: BudgetQuery) -> list[BudgetLine]:
    """All budgets that match."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    return [to_line(row) for row in _ordered(_found(actor, customer_id, query), query.order)]


def list_budgets(
    actor: Actor,
    customer_id: str | None = None,
    *,
    department: str | None = None,
    fiscal_period: str | None = None,
    deleted: bool = False,
) -> list[BudgetLine]:
    """The live or the deleted budgets that the caller may read, by customer and department.

    Without `customer_id`, the budgets of all customers that the caller serves. Department and
    period are compared as in a check, the period in the fiscal year of each customer. Raises
    RequestError INVALID_REQUEST if the text is not a period of any of them.
    """
    require(actor, Action.READ_BUDGETS)
    wanted = actor.customer_id or customer_id
    found = visible(rows(), actor).where(Budget.deletedAt.is_null(not deleted))
    if wanted is not None:
        found = found.where(Budget.customerId == wanted)
    if department is not None:
        found = found.where(Budget.departmentKey == fold(department))
    if fiscal_period is not None:
        found = found.where(_is_period(actor, wanted, fiscal_period))
    order = (Budget.customerId, Budget.departmentKey, Budget.periodKey, Budget.deletedAt, Budget.id)
    return [to_line(row) for row in found.order_by(*order)]


def _is_period(actor: Actor, customer_id: str | None, text: str) -> Any:
    """The condition that a budget has the period, in the fiscal year of its customer."""
    customers_of_key = defaultdict(list)
    problem: PeriodError | None = None
    for customer in customers.list_customers(actor):
        if customer_id not in (None, customer.id):
            continue
        try:
            key = api_period_key(text, customers.fiscal_year_of(customer))
        except PeriodError as error:
            problem = error
        else:
            customers_of_key[key].append(customer.id)
    if problem is not None and not customers_of_key:
        raise invalid_request({"period": field_problem(problem)})
    conditions = [
        (Budget.periodKey == key) & Budget.customerId.in_(ids)
        for key, ids in customers_of_key.items()
    ]
    return reduce(or_, conditions) if conditions else Budget.id.is_null()


def budget_line(actor: Actor, customer_id: str, budget_id: str) -> BudgetLine:
    """One budget, even if it is deleted.

    Raises RequestError BUDGET_NOT_FOUND, also if the caller may not read it.
    """
    require_for(actor, Action.READ_BUDGETS, customer_id)
    found = visible(rows(), actor)
    row = found.where(Budget.id == budget_id, Budget.customerId == customer_id).first()
    if row is None:
        raise RequestError(
            Code.BUDGET_NOT_FOUND, "There is no budget with that id.", budgetId=budget_id
        )
    return to_line(row)


def departments(actor: Actor, customer_id: str) -> list[str]:
    """The names of the departments whose budgets the caller may read, deleted ones included."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    found: Any = (
        visible(Budget.select(fn.MIN(Budget.department)), actor)
        .where(Budget.customerId == customer_id)
        .group_by(Budget.departmentKey)
        .order_by(Budget.departmentKey)
        .tuples()
    )
    return [name for (name,) in found]


def rows() -> Any:
    """The query for budgets, in tuples for `to_line`."""
    return (
        Budget.select(
            Budget.id,
            Budget.customerId,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.periodKey,
            *BALANCE,
            Budget.autoApproveLimitMinor,
            Budget.deletedAt,
            Budget.sourceId,
            Budget.sourceRow,
            Budget.externalId,
            Budget.updatedAt,
            Budget.ownerEmail,
        )
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .tuples()
    )


def to_line(row: Any) -> BudgetLine:
    """A row of `rows()` as a BudgetLine."""
    return BudgetLine._make([*row[:5], Balance(*row[5:10]), *row[10:]])


def _found(actor: Actor, customer_id: str, query: BudgetQuery) -> Any:
    found = visible(rows(), actor).where(
        Budget.customerId == customer_id, Budget.deletedAt.is_null(query.state != "deleted")
    )
    if query.state in ("overdrawn", "high"):
        found = found.where(IS_OVERDRAWN if query.state == "overdrawn" else IS_HIGH)
    if query.period_key:
        found = found.where(Budget.periodKey == query.period_key)
    if query.target_of:
        currency, exponent = query.target_of.balance[:2]
        found = found.where(
            Budget.id != query.target_of.id,
            Budget.currency == currency,
            Budget.currencyExponent == exponent,
        )
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
    """A budget's balance from a time on."""

    at: datetime
    balance: Balance


def burn_down(actor: Actor, customer_id: str, budget: BudgetLine) -> list[Point]:
    """The balance at each hour in which it changed, replayed from the audit log, oldest first."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    # Grouped by hour (the first 13 characters of a time): a budget may have very many movements,
    # and a chart has few pixels.
    hour = fn.SUBSTR(AuditLog.createdAt.cast("TEXT"), SQL("1"), SQL("13"))
    changes: Any = (
        AuditLog.select(
            hour,
            *sums(
                SQL(str(budget.balance.exponent)),
                AuditLog.budgetedDeltaMinor,
                AuditLog.reservedDeltaMinor,
                AuditLog.committedDeltaMinor,
            ),
        )
        .where(AuditLog.budgetId == budget.id, paging.unindexed(AuditLog.customerId) == customer_id)
        .group_by(hour)
        .order_by(hour)
        .tuples()
    )
    points: list[Point] = []
    balance = Balance(budget.balance.currency, budget.balance.exponent, 0, 0, 0)
    for text, *parts in changes:
        _, (budgeted_delta, reserved_delta, committed_delta) = combine_sums(parts)
        balance = balance._replace(budgeted_minor=balance.budgeted_minor + budgeted_delta).moved(
            reserved_minor=reserved_delta, committed_minor=committed_delta
        )
        # PostgreSQL writes a space between day and hour.
        at = datetime.fromisoformat(text.replace(" ", "T")).replace(tzinfo=UTC)
        points.append(Point(at, balance))
    return points
