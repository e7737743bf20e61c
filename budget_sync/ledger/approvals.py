"""Loads the facts about approvals: of a reservation, and over budget."""

from __future__ import annotations

from budget_sync.database import Prepared
from budget_sync.database.models import BudgetCheckLog, Reservation, User
from budget_sync.domain.permissions import Actor
from budget_sync.domain.request_models import OverBudget
from budget_sync.ledger import policy
from budget_sync.ledger.movements import LedgerBudget
from budget_sync.ledger.policy import Approval, Approver

_CHECKED_FOR = Prepared(
    lambda value: (
        BudgetCheckLog.select(BudgetCheckLog.id)
        .where(
            (BudgetCheckLog.customerId == value.customer_id)
            & (BudgetCheckLog.requestId == value.request_id)
            & (BudgetCheckLog.userId == value.user_id)
            & BudgetCheckLog.checkedBy.is_null(False)
        )
        .limit(1)
    )
)
_RESERVED_FOR = Prepared(
    lambda value: (
        Reservation.select(Reservation.seq)
        .where(
            (Reservation.customerId == value.customer_id)
            & (Reservation.requestId == value.request_id)
            & (Reservation.requesterId == value.user_id)
        )
        .limit(1)
    )
)
_APPROVER = Prepared(
    lambda value: User.select(User.role, User.customerId, User.name, User.email).where(
        (User.id == value.user_id) & User.disabledAt.is_null()
    )
)


def is_requester(
    customer_id: str, request_id: str, user_id: str | None, requester_id: str | None
) -> bool:
    """Whether a user is the stored requester, or checked or reserved the request for themselves."""
    values = {"customer_id": customer_id, "request_id": request_id, "user_id": user_id}
    return user_id is not None and (
        user_id == requester_id
        or any(query.first(**values) for query in (_CHECKED_FOR, _RESERVED_FOR))
    )


def approval_of(
    actor: Actor,
    budget: LedgerBudget,
    request_id: str,
    over_budget: OverBudget | None,
    requester_id: str | None,
) -> Approval | None:
    """The over-budget approval; None if the call has none.

    A user who checked or reserved this request for themselves is its requester too, even if it is
    reserved for another user now. Raises RequestError OVERSPEND_NOT_ALLOWED.
    """
    if over_budget is None:
        return None
    approver_id = over_budget.approved_by
    policy.require_may_name_approver(actor, approver_id)
    is_own = is_requester(budget.customer_id, request_id, approver_id, requester_id)
    policy.require_separate_approver(approver_id, is_requester=is_own)
    user = _APPROVER.first(user_id=approver_id)
    approver = user and Approver(user.role, user.customerId, user.name, user.email)
    return policy.over_budget_approval(
        approver_id, approver, budget.customer_id, over_budget.reason
    )
