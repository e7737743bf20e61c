"""The departments whose budgets a caller may read."""

from __future__ import annotations

from typing import Any

from budget_sync.database.models import Budget, Customer, Reservation
from budget_sync.domain.permissions import Action, Actor, Scope, scope_of


def readable_departments(actor: Actor, customer_id: str) -> frozenset[str] | None:
    """The keys of the departments of the customer whose budgets the caller may read.

    None means all of them. An ordinary user of a customer with `employeesSee` "own" reads those of
    departments on which they have or had a reservation.
    """
    if scope_of(actor, Action.READ_BUDGETS) is None or not actor.serves(customer_id):
        return frozenset()
    if scope_of(actor, Action.READ_REQUESTS) is not Scope.OWN:
        return None
    sees: Any = Customer.select(Customer.employeesSee).where(Customer.id == customer_id)
    if sees.scalar() != "own":
        return None
    own: Any = (
        Reservation.select(Budget.departmentKey)
        .join(Budget, on=(Budget.id == Reservation.budgetId))
        .where(Reservation.customerId == customer_id, Reservation.requesterId == actor.user_id)
        .distinct()
        .tuples()
    )
    return frozenset(key for (key,) in own)
