"""The departments that a check may have meant if it found no budget."""

from __future__ import annotations

from typing import Any, Final

from peewee import Case, fn

from budget_sync.accounts.readable import readable_departments
from budget_sync.database import Prepared
from budget_sync.database.models import Budget
from budget_sync.domain.nearest import nearest
from budget_sync.domain.permissions import Actor

#: The most names that a reply suggests.
MAX_SUGGESTIONS: Final = 3

#: The most departments that are compared, so that a check never keeps other calls waiting.
_MAX_COMPARED: Final = 2000


def _live(value: Any) -> Any:
    return (Budget.customerId == value.customer_id) & Budget.deletedAt.is_null()


# The index of live budgets has all of these columns.
_DEPARTMENTS = Prepared(
    lambda value: (
        Budget.select(
            Budget.departmentKey,
            fn.MAX(Case(None, [(Budget.periodKey == value.period, 1)], 0)).alias("in_period"),
        )
        .where(_live(value))
        .group_by(Budget.departmentKey)
        .order_by(Budget.departmentKey)
        .limit(_MAX_COMPARED)
    )
)
_NAME = Prepared(
    lambda value: Budget.select(fn.MIN(Budget.department)).where(
        _live(value) & (Budget.departmentKey == value.department)
    )
)


def suggested_departments(
    actor: Actor, customer_id: str, department_key: str, period_key: str
) -> list[str]:
    """The nearest names of departments with live budgets that the caller may read, at most three.

    Those with a budget of the period come first. If the department itself has budgets, but none of
    that period, only its own name.
    """
    readable = readable_departments(actor, customer_id)
    if readable is not None and not readable:
        return []
    rows = [
        row
        for row in _DEPARTMENTS.rows(customer_id=customer_id, period=period_key)
        if readable is None or row.departmentKey in readable
    ]
    if any(row.departmentKey == department_key for row in rows):
        keys = [department_key]
    else:
        of_period = [row.departmentKey for row in rows if row.in_period]
        of_others = [row.departmentKey for row in rows if not row.in_period]
        keys = nearest(department_key, of_period, MAX_SUGGESTIONS)
        keys += nearest(department_key, of_others, MAX_SUGGESTIONS - len(keys))
    return [_NAME.scalar(customer_id=customer_id, department=each) for each in keys]
