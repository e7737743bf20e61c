"""Writes audit rows. Never opens a transaction: a row stands or falls with the change it tells of."""

from __future__ import annotations

from budget_sync.database import Prepared
from budget_sync.database.models import AuditLog
from budget_sync.domain import clock
from budget_sync.domain.permissions import Actor

_TOLD = (
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
)
_COLUMNS = (
    "customerId",
    "budgetId",
    "version",
    "action",
    "budgetedDeltaMinor",
    "reservedDeltaMinor",
    "committedDeltaMinor",
    "principal",
    "changedBy",
    "createdAt",
    *_TOLD,
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
    budgeted_delta_minor: int = 0,
    reserved_delta_minor: int = 0,
    committed_delta_minor: int = 0,
    **told: str | None,
) -> None:
    """Add one row. `told` may name field, subject, requestId, reservationId, oldValue, newValue, onBehalfOf, approvedBy, reason and externalRef."""
    _INSERT.write(
        customerId=customer_id,
        budgetId=budget_id,
        version=version,
        action=action,
        budgetedDeltaMinor=budgeted_delta_minor,
        reservedDeltaMinor=reserved_delta_minor,
        committedDeltaMinor=committed_delta_minor,
        principal=actor.principal,
        changedBy=actor.label,
        createdAt=clock.to_text(clock.now()),
        **{name: told.pop(name, None) for name in _TOLD},
    )
    if told:
        raise TypeError(f"an audit row has no {', '.join(told)}")
