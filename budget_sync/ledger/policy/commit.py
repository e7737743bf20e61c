"""The decisions of commit."""

from __future__ import annotations

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.money import rescaled
from budget_sync.ledger.policy.amounts import insufficient_error
from budget_sync.ledger.policy.check import auto_approve_limit
from budget_sync.ledger.policy.values import CommitAmounts, CustomerDefaults, InvoiceTolerance

_WHOLE_IN_BASIS_POINTS = 10_000


def require_known_request(request_id: str, *, is_known: bool) -> None:
    """Raises RequestError REQUEST_NOT_FOUND if the request was never checked or reserved."""
    if not is_known:
        raise RequestError(Code.REQUEST_NOT_FOUND, "Request not found.", requestId=request_id)


def no_open_reservation(request_id: str, moved_to: str | None = None) -> RequestError:
    """The error for a commit or amend without an open reservation.

    `moved_to` is the budget to which the reservation was moved.
    """
    if moved_to is not None:
        return RequestError(
            Code.NO_OPEN_RESERVATION,
            f"This request's reservation was moved to the budget {moved_to}. Send that budgetId.",
            requestId=request_id,
            movedToBudgetId=moved_to,
        )
    return RequestError(
        Code.NO_OPEN_RESERVATION,
        "This request holds nothing on this budget. Reserve an amount first.",
        requestId=request_id,
    )


def split_commit(held_minor: int, amount_minor: int, *, final: bool) -> CommitAmounts:
    """Divide a commit between the reservation and the available amount."""
    taken_minor = min(amount_minor, held_minor)
    left_minor = held_minor - taken_minor
    return CommitAmounts(
        taken_minor, amount_minor - taken_minor, left_minor, left_minor if final else 0
    )


def commit_tolerance(
    balance: Balance,
    held_minor: int,
    budget_limit_minor: int | None,
    customer: CustomerDefaults,
    tolerance: InvoiceTolerance,
) -> int:
    """How much a commit may exceed what the request still holds, in minor units.

    It is the customer's share of what is held, but at most the customer's amount. Without that
    amount, or for a budget in another currency, it is at most the auto-approve limit. If there is
    none, FP&A approves everything, and the tolerance is 0.
    """
    share_minor = held_minor * tolerance.basis_points // _WHOLE_IN_BASIS_POINTS
    if tolerance.amount_minor is not None and balance.currency == customer.currency:
        cap_minor: int | None = rescaled(
            tolerance.amount_minor, customer.exponent, balance.exponent
        )
    else:
        cap_minor = auto_approve_limit(balance, budget_limit_minor, customer)
    return min(share_minor, cap_minor or 0)


def require_within_tolerance(
    budget_id: str, balance: Balance, amounts: CommitAmounts, tolerance_minor: int
) -> None:
    """Raises RequestError COMMIT_EXCEEDS_RESERVED if a commit exceeds the hold by too much."""
    if amounts.exceeded_minor > tolerance_minor:
        held, over = balance.money(amounts.taken_minor), balance.money(amounts.exceeded_minor)
        largest_minor = amounts.taken_minor + tolerance_minor
        raise RequestError(
            Code.COMMIT_EXCEEDS_RESERVED,
            f"The request holds {held}, and the commit is {over} more. At most "
            f"{balance.money(largest_minor)} can be committed without FP&A. Send an over-budget "
            "approval, or let FP&A commit it.",
            budgetId=budget_id,
            amountHeld=balance.number(amounts.taken_minor),
            exceededBy=balance.number(amounts.exceeded_minor),
            largestAmount=balance.number(largest_minor),
        )


def commit_error(
    budget_id: str, balance: Balance, held_minor: int, amount_minor: int, *, is_deleted: bool
) -> RequestError:
    """The error for a commit beyond the reservation that the budget does not cover."""
    if is_deleted:
        return RequestError(
            Code.BUDGET_DELETED,
            "The budget was removed: no more than the reserved amount can be committed. "
            f"Commit {balance.money(held_minor)} or less.",
            budgetId=budget_id,
        )
    return insufficient_error(
        budget_id, balance, balance.available_minor + held_minor, amount_minor
    )
