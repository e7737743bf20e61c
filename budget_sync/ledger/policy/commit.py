"""The decisions of commit."""

from __future__ import annotations

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.ledger.policy.amounts import insufficient_error
from budget_sync.ledger.policy.values import CommitAmounts


def require_known_request(request_id: str, *, is_known: bool) -> None:
    """Raises RequestError REQUEST_NOT_FOUND if the request was never checked or reserved."""
    if not is_known:
        raise RequestError(Code.REQUEST_NOT_FOUND, "Request not found.", requestId=request_id)


def no_open_reservation(request_id: str) -> RequestError:
    """The error for a commit without an open reservation."""
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
