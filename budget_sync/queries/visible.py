"""The budgets that a caller may read: all of the customer, or only those of their departments."""

from __future__ import annotations

from typing import Any

from budget_sync.database.models import Budget, Customer, Reservation
from budget_sync.domain.permissions import Action, Actor, Scope, scope_of

#: The values of the setting "employeesSee".
ALL, OWN = "all", "own"


def visible(query: Any, actor: Actor) -> Any:
    """A query of Budget, limited to the rows that the caller may read within their customer.

    If the customer says so, employees read only the budgets of departments in which money was
    reserved for them, at any time. All other callers read all budgets. Every read for display goes
    through this function; checks and reserves do not.
    """
    if not sees_own_only(actor):
        return query
    own = Budget.alias()
    departments = (
        own.select(own.departmentKey)
        .join(Reservation, on=(Reservation.budgetId == own.id))
        .where(
            Reservation.customerId == actor.customer_id, Reservation.requesterId == actor.user_id
        )
    )
    return query.where(
        Budget.customerId == actor.customer_id, Budget.departmentKey.in_(departments)
    )


def sees_own_only(actor: Actor) -> bool:
    """Whether the caller is an employee of a customer that limits what employees read."""
    if scope_of(actor, Action.READ_REQUESTS) is not Scope.OWN or actor.customer_id is None:
        return False
    setting = Customer.select(Customer.employeesSee).where(Customer.id == actor.customer_id)
    return bool(setting.scalar() == OWN)
