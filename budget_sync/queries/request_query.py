"""Searches in lists of requests: their filters, their order by a column, their totals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from peewee import SQL, fn

from budget_sync.accounts.customers import period_key_of
from budget_sync.database import combine_sums, sums
from budget_sync.database.models import Budget, BudgetCheckLog
from budget_sync.domain import clock
from budget_sync.ledger.aliases import department_key
from budget_sync.queries import paging

#: Sorting, adding up and the search for a vendor look at this many rows of a list without an end,
#: the newest ones, so that a page takes less than a second.
LOOKED_AT = 100_000


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """A search for reservations: "open" (oldest first), "closed" or "all" (newest first).

    `waits_for_approval` selects open reservations only. `department` and `period` are texts as in a
    check. `person` and `vendor` are parts of a name. `after` is the `seq` of the last row of the
    previous page. With `sort`, a column of the list after a "-" for descending, `page` counts
    instead, from 1.
    """

    status: str = "open"
    text: str = ""
    budget_id: str = ""
    waits_for_approval: bool = False
    department: str = ""
    period: str = ""
    older_than_days: int | None = None
    after: int | None = None
    person: str = ""
    vendor: str = ""
    sort: str = ""
    page: int = 1


class RequestTotal(NamedTuple):
    """The number of rows of a list in one currency, and their sums in minor units.

    Of reservations: reserved, held, committed and released. Of checks: the amount asked for. Of
    spend: the amount spent, without reversals.
    """

    currency: str
    exponent: int
    rows: int
    sums_minor: list[int]


class RequestTotals(NamedTuple):
    """The totals of a list by currency.

    `is_cut` is whether only the newest LOOKED_AT rows count.
    """

    lines: list[RequestTotal]
    is_cut: bool


def filtered(
    rows: Any, budget_id: Any, texts: tuple[Any, ...], customer_id: str, query: RequestQuery
) -> Any:
    """The rows with the query's budget, department, period and text.

    `budget_id` is the column with the id of the budget, `texts` are the columns to search.
    """
    if query.budget_id:
        rows = rows.where(budget_id == query.budget_id)
    if query.department or query.period:
        budgets = Budget.select(Budget.id).where(Budget.customerId == customer_id)
        rows = rows.where(budget_id.in_(of_name(budgets, customer_id, query)))
    return with_text(rows, texts, query)


def with_text(rows: Any, texts: tuple[Any, ...], query: RequestQuery) -> Any:
    """The rows with the query's text in one of the columns."""
    text = query.text.strip()
    return rows.where(has_text(text, texts)) if text else rows


def of_name(rows: Any, customer_id: str, query: RequestQuery) -> Any:
    """The rows of budgets with the query's department and period."""
    if query.department:
        rows = rows.where(Budget.departmentKey == department_key(customer_id, query.department))
    if query.period:
        rows = rows.where(Budget.periodKey == period_key_of(customer_id, query.period))
    return rows


def days_ago(days: int) -> datetime:
    """The time that many days before now."""
    return clock.now() - timedelta(days=days)


def named(rows: Any, customer_id: str, query: RequestQuery) -> Any:
    """The checks with the query's budget, department and period; of those without a budget, the
    names as they were sent.
    """
    if query.budget_id:
        rows = rows.where(BudgetCheckLog.budgetId == query.budget_id)
    if query.department or query.period:
        budgets = Budget.select(Budget.id).where(Budget.customerId == customer_id)
        sent = BudgetCheckLog.budgetId.is_null()
        for column, text in (
            (BudgetCheckLog.department, query.department),
            (BudgetCheckLog.fiscalPeriod, query.period),
        ):
            if text:
                sent &= fn.LOWER(fn.TRIM(column)) == text.strip().lower()
        rows = rows.where(sent | BudgetCheckLog.budgetId.in_(of_name(budgets, customer_id, query)))
    return rows


def has_text(text: str, columns: tuple[Any, ...]) -> Any:
    """Whether one of the columns contains a text, in any letter case."""
    return reduce(or_, (column.contains(text) for column in columns))


def boundary(table: Any, customer_id: str) -> int | None:
    """The `seq` of the last row of a customer that is not looked at; None if all rows are."""
    found: int | None = (
        table.select(table.seq)
        .where(paging.unindexed(table.customerId) == customer_id)
        .order_by(table.seq.desc())
        .limit(1)
        .offset(LOOKED_AT)
        .scalar()
    )
    return found


def newest(rows: Any, table: Any, customer_id: str) -> Any:
    """Only the newest LOOKED_AT rows of the customer."""
    last = boundary(table, customer_id)
    return rows if last is None else rows.where(table.seq > last)


def sorted_page(rows: Any, orders: dict[str, Any], query: RequestQuery, size: int, key: Any) -> Any:
    """A page of the rows in the query's order, and one more row if there is one."""
    column = orders.get(query.sort.removeprefix("-"), key)
    columns = (
        (column.desc(), key.desc()) if query.sort.startswith("-") else (column.asc(), key.asc())
    )
    return rows.order_by(*columns).limit(size + 1).offset((query.page - 1) * size)


def totals(rows: Any, currency: Any, exponent: Any, amounts: tuple[Any, ...]) -> list[RequestTotal]:
    """The totals of the rows, the currency of the most rows first."""
    count = fn.COUNT(SQL("*"))
    query = rows.select(currency, count, *sums(exponent, *amounts)).group_by(currency)
    found = []
    for name, number, *parts in query.order_by(count.desc(), currency).tuples():
        decimals, sums_minor = combine_sums(parts)
        found.append(RequestTotal(name, decimals, number, sums_minor))
    return found
