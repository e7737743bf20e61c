"""Writes audit rows. Never opens a transaction: a row stands or falls with the change it tells of."""

from __future__ import annotations

from budget_sync import clock
from budget_sync.models import AuditLog
from budget_sync.permissions import Actor


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
    AuditLog.insert(
        customerId=customer_id,
        budgetId=budget_id,
        version=version,
        action=action,
        budgetedDeltaMinor=budgeted_delta_minor,
        reservedDeltaMinor=reserved_delta_minor,
        committedDeltaMinor=committed_delta_minor,
        principal=actor.principal,
        changedBy=actor.label,
        createdAt=clock.now(),
        **told,
    ).execute()
