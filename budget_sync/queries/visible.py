"""The budgets that a caller may read: all of the customer, or only those of their departments."""

from __future__ import annotations

from typing import Any

from budget_sync.accounts.readable import readable_departments
from budget_sync.database.models import Budget
from budget_sync.domain.permissions import Actor


def visible(query: Any, actor: Actor) -> Any:
    """A query of Budget, limited to the rows that the caller may read within their customer.

    If the customer says so, employees read only the budgets of departments in which money was
    reserved for them, at any time. All other callers read all budgets. Every read for display goes
    through this function; checks and reserves do not.
    """
    if actor.customer_id is None:
        return query
    departments = readable_departments(actor, actor.customer_id)
    if departments is None:
        return query
    return query.where(
        Budget.customerId == actor.customer_id, Budget.departmentKey.in_(departments)
    )
