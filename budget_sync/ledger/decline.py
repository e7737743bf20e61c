"""decline: FP&A turns down a request that its budget does not cover."""

from __future__ import annotations

from typing import Any

from peewee import SQL

from budget_sync.database import audit_log, lock_name, transact
from budget_sync.database.models import AuditLog, BudgetCheckLog, Reservation
from budget_sync.domain.decision_models import DeclineRequest
from budget_sync.domain.decisions import Decision, DecisionKind
from budget_sync.domain.money import to_text
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, policy, undecided
from budget_sync.ledger.idempotency import IdempotencyKey
from budget_sync.ledger.movements import LedgerBudget


def decline(actor: Actor, request: DeclineRequest, *, idempotency_key: str | None = None) -> Reply:
    """Decline a request without a reservation whose check was not covered. Moves no money.

    A newer check of the request opens it again. A request that is declined already returns a
    replay. Raises RequestError FORBIDDEN, INVALID_CUSTOMER, IDEMPOTENCY_KEY_REUSED,
    REQUEST_CONFLICT, or an error of `transact`.
    """
    customer_id, request_id = request.customer_id, request.request_id
    require_for(actor, Action.DECIDE, customer_id)

    def work() -> Reply:
        budget_id = _budget_to_lock(customer_id, request_id)
        budget = None
        if budget_id is not None:
            # A reserve on that budget waits, or is visible after this.
            budget, _ = movements.lock_budget(
                actor, budget_id, customer_id, movements.RESERVATION, request_id=request_id
            )
        # Without a budget, two declines could run at the same time.
        lock_name(f"decline {customer_id} {request_id}")
        key = IdempotencyKey.of(actor, customer_id, "decline", idempotency_key, request)
        replay = key.stored()
        if replay:
            return replay
        check = uncovered_check(customer_id, request_id)
        if check is None and current_decline(customer_id, request_id):
            return key.store(Reply(_reply(budget_id, request_id).text, replayed=True))
        is_held = check is None and _is_held(customer_id, request_id)
        policy.require_uncovered(
            request_id, request.check_id, check and check.checkId, is_held=is_held
        )
        if check.budgetId != budget_id:
            # It was checked again on another budget since the lock.
            policy.require_uncovered(request_id, "", check.checkId, is_held=False)
        return key.store(_record(actor, budget, check, request.reason))

    return transact(work)


def uncovered_check(customer_id: str, request_id: str) -> Any:
    """The check because of which a request is not covered; None if it does not wait.

    Does not check permissions.
    """
    return (
        BudgetCheckLog.select()
        .where(
            BudgetCheckLog.customerId == customer_id,
            BudgetCheckLog.requestId == request_id,
            undecided.is_uncovered(),
        )
        .order_by(BudgetCheckLog.id.desc())
        .first()
    )


def current_decline(customer_id: str, request_id: str) -> Decision | None:
    """The decline of a request, unless it was checked or reserved again since.

    Does not check permissions.
    """
    of_request = (AuditLog.customerId == customer_id) & (AuditLog.requestId == request_id)
    row = (
        AuditLog.select()
        .where(of_request & (AuditLog.action == "DECLINE"))
        .order_by(AuditLog.id.desc())
        .first()
    )
    if row is None or undecided.is_checked_since(customer_id, request_id, row.afterCheck):
        return None
    later = AuditLog.select(SQL("1")).where(
        of_request & (AuditLog.id > row.id) & AuditLog.reservationId.is_null(False)
    )
    if later.exists():
        return None
    return Decision(DecisionKind.DECLINED, row.changedBy, row.createdAt, row.reason)


def _budget_to_lock(customer_id: str, request_id: str) -> str | None:
    """The budget of the latest uncovered check, or else of the latest decline."""
    check = uncovered_check(customer_id, request_id)
    if check is not None:
        found: str | None = check.budgetId
        return found
    declined: str | None = (
        AuditLog.select(AuditLog.budgetId)
        .where(
            AuditLog.customerId == customer_id,
            AuditLog.requestId == request_id,
            AuditLog.action == "DECLINE",
        )
        .order_by(AuditLog.id.desc())
        .scalar()
    )
    return declined


def _is_held(customer_id: str, request_id: str) -> bool:
    held = Reservation.select(SQL("1")).where(
        Reservation.customerId == customer_id,
        Reservation.requestId == request_id,
        Reservation.status == "open",
    )
    return held.exists()


def _record(actor: Actor, budget: LedgerBudget | None, check: Any, reason: str) -> Reply:
    """Write the audit row, with the amount that was asked for. It is a change of the budget."""
    after = budget and movements.move_always(budget)
    is_own = check.userId == actor.user_id
    audit_log.record(
        actor,
        "DECLINE",
        customer_id=check.customerId,
        budget_id=after and after.id,
        version=after and after.version,
        balance=after and after.balance,
        subject=check.userId,
        requestId=check.requestId,
        newValue=to_text(check.amountMinor, check.currencyExponent),
        onBehalfOf=None if is_own else policy.person_label(check.userName, check.userEmail),
        reason=reason,
        afterCheck=check.id,
    )
    return _reply(check.budgetId, check.requestId)


def _reply(budget_id: str | None, request_id: str) -> Reply:
    return Reply.of(
        {"success": True, "requestId": request_id, "budgetId": budget_id, "declined": True}
    )
