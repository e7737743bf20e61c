"""approve: FP&A accepts a reservation whose check said REQUIRES_APPROVAL."""

from __future__ import annotations

from typing import Any

from peewee import Case, fn

from budget_sync.database import Prepared, audit_log, transact
from budget_sync.database.models import BudgetCheckLog, Reservation
from budget_sync.domain.decision_models import ApproveRequest
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, policy, undecided
from budget_sync.ledger.approvals import is_requester
from budget_sync.ledger.idempotency import IdempotencyKey
from budget_sync.ledger.movements import LedgerBudget, ReservationRef
from budget_sync.ledger.reservations import moved_to

#: The reason in the audit log if the body has none.
_REASON = "Request approved"

_WAITS = Prepared(
    lambda value: Reservation.select(Case(None, [(undecided.waits_for_approval(), 1)], 0)).where(
        Reservation.seq == value.seq
    )
)
_NEWEST_CHECK = Prepared(
    lambda value: BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id)).where(
        (BudgetCheckLog.customerId == value.customer_id)
        & (BudgetCheckLog.requestId == value.request_id)
    )
)
_APPROVE = Prepared(
    lambda value: Reservation.update(
        approvedMinor=value.approved_minor,
        approvedAfterCheck=value.after_check,
        version=value.version,
    ).where((Reservation.seq == value.seq) & (Reservation.version == value.version_before))
)


def approve(actor: Actor, request: ApproveRequest, *, idempotency_key: str | None = None) -> Reply:
    """Approve a reservation that waits for it. Moves no money.

    A reservation that is approved already returns a replay. Raises RequestError FORBIDDEN,
    INVALID_CUSTOMER, BUDGET_NOT_FOUND, IDEMPOTENCY_KEY_REUSED, NO_OPEN_RESERVATION,
    AMEND_OUT_OF_DATE, REQUEST_CONFLICT, or an error of `transact`.
    """
    movements.require_customer(actor, request.customer_id)
    require(actor, Action.DECIDE)

    def work() -> Reply:
        budget, reservation = movements.lock_budget(
            actor,
            request.budget_id,
            request.customer_id,
            movements.RESERVATION,
            request_id=request.request_id,
        )
        key = IdempotencyKey.of(actor, budget.customer_id, "approve", idempotency_key, request)
        replay = key.stored()
        if replay:
            return replay
        if reservation is None or reservation.status != "open":
            raise policy.no_open_reservation(request.request_id, moved_to(reservation))
        is_own = is_requester(
            budget.customer_id, request.request_id, actor.user_id, reservation.requesterId
        )
        policy.require_not_requester(request.request_id, is_requester=is_own)
        waits = bool(_WAITS.scalar(seq=reservation.seq))
        if not waits and reservation.approvedMinor is not None:
            reply = _reply(budget, reservation, reservation.version)
            return key.store(Reply(reply.text, replayed=True))
        policy.require_version(
            reservation.id,
            budget.balance,
            reservation.heldMinor,
            reservation.version,
            request.if_version,
        )
        policy.require_waiting(request.request_id, waits=waits)
        return key.store(_record(actor, budget, reservation, request.reason or _REASON))

    return transact(work)


def _record(actor: Actor, budget: LedgerBudget, reservation: Any, reason: str) -> Reply:
    """Store the approval and write its audit row: a change of the budget without an amount."""
    after_check = _NEWEST_CHECK.scalar(
        customer_id=budget.customer_id, request_id=reservation.requestId
    )
    after = movements.move_always(budget)
    updated = _APPROVE.execute(
        seq=reservation.seq,
        approved_minor=reservation.heldMinor
        + reservation.committedMinor
        - reservation.reversedMinor,
        after_check=after_check,
        version=after.version,
        version_before=reservation.version,
    )
    if updated != 1:
        raise RuntimeError(
            f"reservation {reservation.id} changed between read and update in one transaction"
        )
    requester = ReservationRef.of(reservation).requester
    held = budget.balance.text(reservation.heldMinor)
    audit_log.record(
        actor,
        "APPROVE",
        customer_id=budget.customer_id,
        budget_id=budget.id,
        version=after.version,
        balance=after.balance,
        subject=requester.id,
        requestId=reservation.requestId,
        reservationId=reservation.id,
        oldValue=held,
        newValue=held,
        onBehalfOf=requester.label,
        reason=reason,
        afterCheck=after_check,
    )
    return _reply(after, reservation, after.version)


def _reply(budget: LedgerBudget, reservation: Any, version: int) -> Reply:
    return Reply.of(
        {
            "success": True,
            "reservationId": reservation.id,
            "budgetId": budget.id,
            "requestId": reservation.requestId,
            "amountHeld": budget.balance.number(reservation.heldMinor),
            "version": version,
        }
    )
