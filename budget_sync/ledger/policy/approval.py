"""Who may approve an amount over budget."""

from __future__ import annotations

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import APPROVER_ROLES, Actor
from budget_sync.ledger.policy.amounts import insufficient_error
from budget_sync.ledger.policy.values import Approval, Approver, person_label


def require_may_name_approver(actor: Actor, approver_id: str) -> None:
    """Raises RequestError OVERSPEND_NOT_ALLOWED if a person names another approver."""
    if not actor.is_service and approver_id != actor.user_id:
        raise RequestError(
            Code.OVERSPEND_NOT_ALLOWED,
            "approvedBy is another user. Send your own user id.",
            approvedBy=approver_id,
        )


def require_separate_approver(approver_id: str, *, is_requester: bool) -> None:
    """Raises RequestError OVERSPEND_NOT_ALLOWED if the approver requested the money."""
    if is_requester:
        raise RequestError(
            Code.OVERSPEND_NOT_ALLOWED,
            "The requester cannot approve their own request over budget. Name another approver.",
            approvedBy=approver_id,
        )


def over_budget_approval(
    approver_id: str, approver: Approver | None, customer_id: str, reason: str
) -> Approval:
    """The approval by that user.

    Raises RequestError OVERSPEND_NOT_ALLOWED unless it is an FP&A or admin user of the customer.
    """
    if (
        approver is None
        or approver.role not in APPROVER_ROLES
        or approver.customer_id not in (None, customer_id)
    ):
        raise RequestError(
            Code.OVERSPEND_NOT_ALLOWED,
            "approvedBy is not an FP&A or admin user of this customer. Send the id of one.",
            approvedBy=approver_id,
        )
    return Approval(person_label(approver.name, approver.email), reason)


def require_approval(
    budget_id: str, balance: Balance, amount_minor: int, approval: Approval | None
) -> Approval:
    """The approval. Raises RequestError INSUFFICIENT_BUDGET without one."""
    if approval is None:
        raise insufficient_error(budget_id, balance, balance.available_minor, amount_minor)
    return approval
