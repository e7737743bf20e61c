"""Writes audit rows. Each row belongs to the transaction of the change that it records."""

from __future__ import annotations

from budget_sync.database.models import AuditLog
from budget_sync.database.prepared import Prepared
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.permissions import Actor

_DETAILS = (
    "field",
    "subject",
    "requestId",
    "reservationId",
    "oldValue",
    "newValue",
    "onBehalfOf",
    "approvedBy",
    "reason",
    "externalRef",
    "transferId",
    "afterCheck",
)
_COLUMNS = (
    "customerId",
    "budgetId",
    "version",
    "action",
    "budgetedDeltaMinor",
    "reservedDeltaMinor",
    "committedDeltaMinor",
    "budgetedMinor",
    "reservedMinor",
    "committedMinor",
    "principal",
    "changedBy",
    "createdAt",
    *_DETAILS,
)
_INSERT = Prepared(
    lambda value: AuditLog.insert({column: getattr(value, column) for column in _COLUMNS})
)


def record(
    actor: Actor,
    action: str,
    *,
    customer_id: str | None,
    budget_id: str | None = None,
    version: int | None = None,
    balance: Balance | None = None,
    budgeted_delta_minor: int = 0,
    reserved_delta_minor: int = 0,
    committed_delta_minor: int = 0,
    **details: str | int | None,
) -> None:
    """Add one row, without opening a transaction. `balance` is the budget's after the change.

    Raises TypeError if there is a budget without a balance, or the reverse.

    `details` may have the keys field, subject, requestId, reservationId, oldValue, newValue,
    onBehalfOf, approvedBy, reason, externalRef, transferId and afterCheck. Raises TypeError for any
    other key.
    """
    if (budget_id is None) != (balance is None):
        raise TypeError("an audit row of a budget needs the balance after it")
    _INSERT.write(
        customerId=customer_id,
        budgetId=budget_id,
        version=version,
        action=action,
        budgetedDeltaMinor=budgeted_delta_minor,
        reservedDeltaMinor=reserved_delta_minor,
        committedDeltaMinor=committed_delta_minor,
        budgetedMinor=balance and balance.budgeted_minor,
        reservedMinor=balance and balance.reserved_minor,
        committedMinor=balance and balance.committed_minor,
        principal=actor.principal,
        changedBy=actor.label,
        createdAt=clock.to_text(clock.now()),
        **{name: details.pop(name, None) for name in _DETAILS},
    )
    if details:
        raise TypeError(f"the audit log has no columns {', '.join(details)}")
