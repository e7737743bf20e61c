"""Which requests wait for a decision of FP&A, as conditions of queries.

A reservation waits for an approval. A check that the budget does not cover waits for an approval
over budget or for a decline. Everything is compared by sequence and not by time, because clocks
jump.
"""

from __future__ import annotations

from typing import Any

from peewee import JOIN, SQL, Case, fn

from budget_sync.database.models import AuditLog, BudgetCheckLog, Reservation

#: The held and the committed amount of a reservation, without reversals.
TOTAL_MINOR: Any = Reservation.heldMinor + Reservation.committedMinor - Reservation.reversedMinor

# Constants and not parameters, so that both databases use the partial indexes.
_REQUIRES_APPROVAL = SQL("'REQUIRES_APPROVAL'")
_FALSE = SQL("FALSE")


def waits_for_approval() -> Any:
    """Whether a reservation is open, its check said REQUIRES_APPROVAL, and FP&A has not approved.

    Its check is the latest one of the request on its budget, by sequence. If that budget has none,
    because the hold was moved there, it is the latest one of the request. An anonymous check counts
    only if there is no authenticated one. A check of another user for themselves counts only if
    there is no other authenticated one, so that no user changes the state of another's request.

    An approved reservation waits again if it exceeds the approved amount, and its check is newer
    than the approval or was for more than that.
    """
    check: Any = BudgetCheckLog.alias()
    is_of_another = (check.userId != Reservation.requesterId) & (
        check.checkedBy == SQL("'user:'").concat(check.userId)
    )
    is_of_request = (check.customerId == Reservation.customerId) & (
        check.requestId == Reservation.requestId
    )
    is_not_approved = (
        Reservation.approvedMinor.is_null()
        | (check.id > Reservation.approvedAfterCheck)
        | (check.amountMinor > Reservation.approvedMinor)
    )
    latest_code = (
        check.select(Case(None, [(is_not_approved, check.code)], ""))
        .where(is_of_request)
        .order_by(
            Case(None, [(check.budgetId == Reservation.budgetId, 0)], 1),
            Case(None, [(check.checkedBy.is_null(), 2), (is_of_another, 1)], 0),
            check.id.desc(),
        )
        .limit(1)
    )
    any_waits: Any = BudgetCheckLog.alias()
    requires_approval = any_waits.select(SQL("1")).where(
        any_waits.customerId == Reservation.customerId,
        any_waits.requestId == Reservation.requestId,
        any_waits.code == _REQUIRES_APPROVAL,
    )
    exceeds_approval = Reservation.approvedMinor.is_null() | (
        Reservation.approvedMinor < TOTAL_MINOR
    )
    # CASE keeps this order. Most reservations fail a condition before their checks are sorted.
    is_possible = (Reservation.status == "open") & exceeds_approval & fn.EXISTS(requires_approval)
    return Case(None, [(is_possible, latest_code)], "") == _REQUIRES_APPROVAL


def is_uncovered() -> Any:
    """Whether a check of BudgetCheckLog waits for an approval over budget, or for a decline.

    Its answer was INSUFFICIENT_BUDGET or NO_BUDGET, no other check of the request supersedes it,
    it was not declined, and the request has no reservation on that budget (without a budget: on
    any) that is open or was closed after the check.
    """
    settled = Reservation.select(SQL("1")).where(
        Reservation.customerId == BudgetCheckLog.customerId,
        Reservation.requestId == BudgetCheckLog.requestId,
        BudgetCheckLog.budgetId.is_null() | (Reservation.budgetId == BudgetCheckLog.budgetId),
        (Reservation.status == "open") | (Reservation.closedAfterCheck >= BudgetCheckLog.id),
    )
    other: Any = BudgetCheckLog.alias()
    superseding = other.select(SQL("1")).where(
        other.customerId == BudgetCheckLog.customerId,
        other.requestId == BudgetCheckLog.requestId,
        _supersedes(other, BudgetCheckLog),
    )
    declined = AuditLog.select(SQL("1")).where(
        AuditLog.customerId == BudgetCheckLog.customerId,
        AuditLog.requestId == BudgetCheckLog.requestId,
        AuditLog.action == "DECLINE",
        AuditLog.afterCheck >= BudgetCheckLog.id,
    )
    return is_denied() & ~fn.EXISTS(settled) & ~fn.EXISTS(superseding) & ~fn.EXISTS(declined)


def is_denied() -> Any:
    """Whether the answer to a check of BudgetCheckLog was INSUFFICIENT_BUDGET or NO_BUDGET."""
    return BudgetCheckLog.available == _FALSE


def is_checked_since(customer_id: str, request_id: str, after: int) -> bool:
    """Whether a check of the request supersedes those up to `after`, so that it waits again.

    A check of a user for themselves does not, unless the check `after` was for that user.
    """
    last: Any = BudgetCheckLog.alias()
    newer = (
        BudgetCheckLog.select(SQL("1"))
        .join(last, JOIN.LEFT_OUTER, on=(last.id == after))
        .where(
            BudgetCheckLog.customerId == customer_id,
            BudgetCheckLog.requestId == request_id,
            BudgetCheckLog.id > after,
            # The check itself may have been deleted by `prune_checks`.
            Case(
                None,
                [(last.id.is_null(), BudgetCheckLog.checkedBy.is_null(False))],
                _supersedes(BudgetCheckLog, last),
            ),
        )
    )
    return newer.exists()


def _supersedes(check: Any, other: Any) -> Any:
    """Whether `check` replaces `other`, a check of the same request, as the state of the request.

    An authenticated check supersedes every earlier check and every anonymous check. It does not
    supersede a check for another user if its sender checked for themselves. An anonymous check
    supersedes only earlier anonymous checks.
    """
    is_anonymous, is_later = check.checkedBy.is_null(), check.id > other.id
    is_senders_own = check.checkedBy == SQL("'user:'").concat(check.userId)
    return Case(
        None,
        [
            (is_anonymous, other.checkedBy.is_null() & is_later),
            ((check.userId != other.userId) & is_senders_own, False),
        ],
        other.checkedBy.is_null() | is_later,
    )
