"""Decisions of FP&A about requests, read from the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from budget_sync.database.models import AuditLog, Reservation
from budget_sync.domain.decisions import Decision, DecisionKind
from budget_sync.ledger.decline import current_decline
from budget_sync.queries.timeline import ReservationLine, Timeline

_KINDS = {
    "APPROVE": DecisionKind.APPROVED,
    "OVER_BUDGET": DecisionKind.APPROVED_OVER_BUDGET,
    "RELEASE": DecisionKind.REJECTED,
}

#: The call of a rejection begins with this, in `closingCall`.
_REJECTION = "release:reject:"


def decisions_of(
    customer_id: str, lines: Sequence[ReservationLine]
) -> Mapping[str, Decision | None]:
    """The decision on each reservation, by its id; None if it waits, or if none was needed.

    A rejection counts if it closed the reservation. Does not check permissions.
    """
    ids = [line.id for line in lines]
    stored = {
        row.id: row
        for row in Reservation.select(
            Reservation.id, Reservation.approvedAfterCheck, Reservation.closingCall
        ).where(Reservation.id.in_(ids))
    }
    rows = list(
        AuditLog.select()
        .where(
            AuditLog.customerId == customer_id,
            AuditLog.requestId.in_({line.request_id for line in lines}),
            AuditLog.action.in_(list(_KINDS)),
        )
        .order_by(AuditLog.id)
    )
    return {line.id: _decision(line, stored[line.id], rows) for line in lines}


def decision_of(customer_id: str, timeline: Timeline) -> Decision | None:
    """The decision on a request: a decline, or the one on its latest reservation.

    Only a decision in the timeline, so that a user does not see one on a colleague's request.
    """
    if any(movement.action == "DECLINE" for movement in timeline.movements):
        declined = current_decline(customer_id, timeline.request_id)
        if declined is not None:
            return declined
    if not timeline.reservations:
        return None
    latest = timeline.reservations[-1]
    return decisions_of(customer_id, [latest])[latest.id]


def _decision(
    line: ReservationLine, stored: Reservation, rows: Sequence[AuditLog]
) -> Decision | None:
    if line.waits_for_approval:
        return None
    is_rejected = (stored.closingCall or "").startswith(_REJECTION)
    found = None
    for row in rows:
        if row.requestId != line.request_id:
            continue
        # A reservation that was moved here has the approval of the one before.
        is_of_line = row.reservationId == line.id or (
            row.action == "APPROVE" and row.afterCheck == stored.approvedAfterCheck
        )
        if is_of_line and (row.action != "RELEASE" or is_rejected):
            by = row.approvedBy or row.changedBy
            found = Decision(_KINDS[row.action], by, row.createdAt, row.reason or "")
    return found
