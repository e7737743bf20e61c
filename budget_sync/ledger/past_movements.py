"""Earlier movements of a request, from the audit log: for replays without a stored reply.

The audit log has all that the reply to a movement said, so no second copy of the reply is kept.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database import Prepared
from budget_sync.database.models import AuditLog
from budget_sync.domain.money import to_minor
from budget_sync.ledger.movements import LedgerBudget


class PastMovement(NamedTuple):
    """A row of the audit log."""

    version: int
    action: str
    reservation_id: str | None
    reserved_delta_minor: int
    committed_delta_minor: int
    new_value: str | None
    reason: str | None
    external_ref: str | None
    transfer_id: str | None
    budgeted_after_minor: int
    reserved_after_minor: int
    committed_after_minor: int

    @property
    def available_minor(self) -> int:
        """What the budget had available after the movement."""
        return self.budgeted_after_minor - self.reserved_after_minor - self.committed_after_minor


_COLUMNS = (
    AuditLog.version,
    AuditLog.action,
    AuditLog.reservationId,
    AuditLog.reservedDeltaMinor,
    AuditLog.committedDeltaMinor,
    AuditLog.newValue,
    AuditLog.reason,
    AuditLog.externalRef,
    AuditLog.transferId,
    AuditLog.budgetedMinor,
    AuditLog.reservedMinor,
    AuditLog.committedMinor,
)
_AT_VERSION = Prepared(
    lambda value: AuditLog.select(*_COLUMNS).where(
        (AuditLog.budgetId == value.budget_id) & (AuditLog.version == value.version)
    )
)
# By the request, as in `_with_ref`: COALESCE keeps SQLite from searching the budget's versions.
_VERSION_BEFORE = Prepared(
    lambda value: AuditLog.select(fn.MAX(AuditLog.version)).where(
        (AuditLog.customerId == value.customer_id)
        & (AuditLog.requestId == value.request_id)
        & (AuditLog.reservationId == value.reservation_id)
        & (fn.COALESCE(AuditLog.version, 0) < value.version)
    )
)
_OF_TRANSFER = Prepared(
    lambda value: (
        AuditLog.select(*_COLUMNS)
        .where(
            (AuditLog.budgetId == value.budget_id)
            & (AuditLog.version <= value.version)
            & (AuditLog.version > value.after)
            & (AuditLog.transferId == value.transfer_id)
        )
        .order_by(AuditLog.version)
    )
)


def _with_ref(value: Any, action: str) -> Any:
    # A request has few rows, but a budget and a purchase order may have very many. COALESCE, and
    # the order by id, keep SQLite from searching those.
    return (
        AuditLog.select(*_COLUMNS)
        .where(
            (AuditLog.customerId == value.customer_id)
            & (AuditLog.requestId == value.request_id)
            & (AuditLog.budgetId == value.budget_id)
            & (AuditLog.action == action)
            & (fn.COALESCE(AuditLog.externalRef, "") == value.external_ref)
        )
        .order_by(AuditLog.id)
    )


_COMMITS_WITH_REF = Prepared(lambda value: _with_ref(value, "COMMIT"))
_REVERSALS_WITH_REF = Prepared(lambda value: _with_ref(value, "REVERSE"))


def new_minor(budget: LedgerBudget, movement: PastMovement) -> int:
    """The new value of a movement in minor units: the amount held after it."""
    return to_minor(Decimal(movement.new_value or 0), budget.balance.exponent)


def movement_at(budget: LedgerBudget, version: int) -> PastMovement | None:
    """The budget's movement with that version; None if the log is damaged."""
    row = _AT_VERSION.first(budget_id=budget.id, version=version)
    return row and PastMovement(*row)


def version_before(reservation: Any, version: int) -> int | None:
    """The version that the reservation had before its movement with that version."""
    found: int | None = _VERSION_BEFORE.scalar(
        customer_id=reservation.customerId,
        request_id=reservation.requestId,
        reservation_id=reservation.id,
        version=version,
    )
    return found


def movements_of_call(budget: LedgerBudget, last: PastMovement, limit: int) -> list[PastMovement]:
    """All rows of the call that wrote the row `last`, at most `limit`, in their order."""
    if last.transfer_id is None:
        return [last]
    rows = _OF_TRANSFER.rows(
        budget_id=budget.id,
        version=last.version,
        after=last.version - limit,
        transfer_id=last.transfer_id,
    )
    return [PastMovement(*row) for row in rows]


def commits_with_ref(
    budget: LedgerBudget, request_id: str, external_ref: str
) -> list[PastMovement]:
    """The commits of a request on the budget with that reference, in their order."""
    return _with(_COMMITS_WITH_REF, budget, request_id, external_ref)


def reversals_with_ref(
    budget: LedgerBudget, request_id: str, external_ref: str
) -> list[PastMovement]:
    """The rows of reversals of a request on the budget with that reference, in their order."""
    return _with(_REVERSALS_WITH_REF, budget, request_id, external_ref)


def _with(
    query: Prepared, budget: LedgerBudget, request_id: str, external_ref: str
) -> list[PastMovement]:
    rows = query.rows(
        customer_id=budget.customer_id,
        external_ref=external_ref,
        request_id=request_id,
        budget_id=budget.id,
    )
    return [PastMovement(*row) for row in rows]
