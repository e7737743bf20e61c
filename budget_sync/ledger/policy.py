"""The decisions of check, reserve, commit and release. Pure: plain values in, no database, no I/O.

A verb loads facts, asks this module, moves money and records the movement. If a decision sometimes
needs another query, it is split into two functions, so that the query runs only if it is needed.

Functions named `require_…` raise RequestError if the call must be rejected.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import (
    LIMIT_MINOR,
    MoneyError,
    currency_exponent,
    rescaled,
    to_minor,
)
from budget_sync.domain.permissions import APPROVER_ROLES, Actor, Scope


class CheckDecision(NamedTuple):
    """The answer to a check."""

    code: Code
    reason: str
    available: bool = False
    can_auto_approve: bool = False


class CustomerDefaults(NamedTuple):
    """The customer's values that apply if the budget has none."""

    currency: str
    exponent: int
    auto_approve_limit_minor: int | None


class Requester(NamedTuple):
    """The user or service that a reservation belongs to."""

    id: str
    name: str
    email: str

    @property
    def label(self) -> str:
        """How the audit log names the requester."""
        return person_label(self.name, self.email)


class Approver(NamedTuple):
    """An enabled user who is named as the approver of an over-budget reservation."""

    role: str
    customer_id: str | None
    name: str
    email: str


class Approval(NamedTuple):
    """An over-budget approval as the audit log records it."""

    approver: str
    reason: str


class CommitAmounts(NamedTuple):
    """A commit in minor units: its parts, and the rest of the reservation."""

    #: Moved from reserved to committed.
    taken_minor: int
    #: Committed beyond the reservation, from the available amount.
    exceeded_minor: int
    #: Still reserved after that.
    left_minor: int
    #: The part of `left_minor` that a final commit releases.
    released_minor: int


def person_label(name: str, email: str) -> str:
    """How the audit log names a person: "Jane Doe (jane@acme.com)"."""
    return f"{name} ({email})" if email else name


# All verbs


def require_minor(
    amount: Decimal, currency: str, exponent: int, sent_currency: str | None = None
) -> int:
    """The amount in minor units of the budget's currency.

    Raises RequestError INVALID_REQUEST if the amount has too many decimals or was sent in another
    currency.
    """
    fields = {}
    if sent_currency not in (None, currency):
        fields["currency"] = f"must be {currency}, the budget's currency"
    try:
        minor = to_minor(amount, exponent)
    except MoneyError as error:
        fields["amount"] = str(error)
    if fields:
        raise invalid_request(fields)
    return minor


def insufficient_reason(balance: Balance, available_minor: int, requested_minor: int) -> str:
    """The guide's sentence for an amount that the budget does not cover."""
    available, requested = balance.money(available_minor), balance.money(requested_minor)
    return f"Insufficient budget. Available: {available}, Requested: {requested}"


def insufficient_error(
    budget_id: str, balance: Balance, available_minor: int, requested_minor: int
) -> RequestError:
    """The error for an amount that the budget does not cover, with the shortfall."""
    reason = insufficient_reason(balance, available_minor, requested_minor)
    return RequestError(
        Code.INSUFFICIENT_BUDGET,
        reason,
        reason=reason,
        budgetId=budget_id,
        available=balance.number(available_minor),
        shortfall=balance.number(requested_minor - available_minor),
    )


# check


def currency_without_budget(
    customer: CustomerDefaults, sent_currency: str | None
) -> tuple[str, int]:
    """The currency and exponent of an amount if no budget matches: as sent, or the customer's.

    Raises RequestError INVALID_REQUEST if the currency sent does not exist.
    """
    if sent_currency is None:
        return customer.currency, customer.exponent
    try:
        return sent_currency, currency_exponent(sent_currency)
    except MoneyError as error:
        raise invalid_request({"currency": str(error)}) from None


def require_own_user_id(actor: Actor, scope: Scope, user_id: str) -> None:
    """Raises RequestError NOT_YOUR_REQUEST if an ordinary user checks for another user."""
    if scope is Scope.OWN and user_id != actor.user_id:
        raise RequestError(
            Code.NOT_YOUR_REQUEST, "You can check only for yourself. Send your own userId."
        )


def auto_approve_limit(
    balance: Balance, budget_limit_minor: int | None, customer: CustomerDefaults
) -> int | None:
    """The auto-approve limit in the budget's minor units; None if FP&A approves everything.

    The budget's own limit applies. Without one, the customer's limit applies if the budget is in
    the customer's currency.
    """
    if budget_limit_minor is not None:
        return budget_limit_minor
    if customer.auto_approve_limit_minor is None or balance.currency != customer.currency:
        return None
    # Rounding down changes no decision: amounts are whole numbers of the budget's minor units.
    return rescaled(customer.auto_approve_limit_minor, customer.exponent, balance.exponent)


def decide_check(
    balance: Balance | None, own_minor: int, amount_minor: int, limit_minor: int | None
) -> CheckDecision:
    """Decide a check; `balance` is None if no budget matches.

    `own_minor` is reserved for the same request and therefore counts as available.
    """
    if balance is None:
        return CheckDecision(Code.NO_BUDGET, "No budget found")
    available_minor = balance.available_minor + own_minor
    if amount_minor > available_minor:
        return CheckDecision(
            Code.INSUFFICIENT_BUDGET, insufficient_reason(balance, available_minor, amount_minor)
        )
    if limit_minor is None or amount_minor > limit_minor:
        return CheckDecision(
            Code.REQUIRES_APPROVAL, "Budget available. Requires FP&A approval", available=True
        )
    return CheckDecision(
        Code.AUTO_APPROVED,
        "Budget available. Within the auto-approve limit",
        available=True,
        can_auto_approve=True,
    )


# reserve


def require_not_held_by_other(request_id: str, *, is_held_by_other: bool) -> None:
    """Raises RequestError NOT_YOUR_REQUEST if another user has reserved for the request."""
    if is_held_by_other:
        raise RequestError(
            Code.NOT_YOUR_REQUEST,
            "This request belongs to another user. Use a new requestId.",
            requestId=request_id,
        )


def choose_requester(
    actor: Actor,
    scope: Scope,
    *,
    user_id: str | None,
    holder: Requester | None,
    last_checked_for: Requester | None,
) -> Requester | str:
    """The requester of a reservation, or only the id `user_id` if no check names that user.

    `holder` is the requester of the reservation that is open already: it stays the requester.
    `last_checked_for` is the user of the request's last check, or of the last check for `user_id`
    if that is given. An ordinary user is always the requester.
    """
    if holder is not None:
        return holder
    caller = Requester(actor.user_id or actor.principal, actor.name, actor.email or "")
    if scope is Scope.OWN:
        return caller
    requester = last_checked_for or user_id
    requester_id = requester.id if isinstance(requester, Requester) else requester
    if requester is None or requester_id == actor.user_id:
        return caller
    return requester


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


def require_same_amount(
    balance: Balance, reservation_id: str, reserved_minor: int, amount_minor: int
) -> None:
    """Raises RequestError REQUEST_CONFLICT if the open reservation has another amount."""
    if reserved_minor != amount_minor:
        raise RequestError(
            Code.REQUEST_CONFLICT,
            "This request already has an open reservation of another amount on this budget. "
            "Release it first.",
            reservationId=reservation_id,
            amountReserved=balance.number(reserved_minor),
        )


def require_newer_check(reservation_id: str, *, has_newer_check: bool) -> None:
    """Raises RequestError RESERVATION_CLOSED without a check since the reservation closed."""
    if not has_newer_check:
        raise RequestError(
            Code.RESERVATION_CLOSED,
            "This request's reservation was already committed or released. "
            "Check the request again before you reserve again.",
            reservationId=reservation_id,
        )


def require_own_check(request_id: str, *, has_own_check: bool) -> None:
    """Raises RequestError CHECK_REQUIRED if an ordinary user did not check the request."""
    if not has_own_check:
        raise RequestError(
            Code.CHECK_REQUIRED,
            "You have not checked this request on this budget for this amount. Check it first.",
            requestId=request_id,
        )


def require_live_budget(budget_id: str, *, is_deleted: bool) -> None:
    """Raises RequestError BUDGET_DELETED if the budget takes no new reservations."""
    if is_deleted:
        raise RequestError(
            Code.BUDGET_DELETED,
            "The budget was removed and takes no new reservations. Choose another budget.",
            budgetId=budget_id,
        )


def require_approval(
    budget_id: str, balance: Balance, amount_minor: int, approval: Approval | None
) -> Approval:
    """The approval. Raises RequestError INSUFFICIENT_BUDGET without one."""
    if approval is None:
        raise insufficient_error(budget_id, balance, balance.available_minor, amount_minor)
    return approval


def require_below_ceiling(budget_id: str, balance: Balance, amount_minor: int) -> None:
    """Raises RequestError AMOUNT_TOO_LARGE if the reserved and committed amounts became too large.

    An amount within the budget never does that, because budgets are below the same ceiling.
    """
    largest_minor = max(0, LIMIT_MINOR - 1 - balance.used_minor)
    if amount_minor > largest_minor:
        raise RequestError(
            Code.AMOUNT_TOO_LARGE,
            "Reserved and committed amounts of a budget must stay below "
            f"{balance.money(LIMIT_MINOR)} together. This budget can take "
            f"{balance.money(largest_minor)} more. Reserve less, or release other reservations "
            "first.",
            budgetId=budget_id,
            largestAmount=balance.number(largest_minor),
        )


# commit


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


# release


def require_requester_named(actor: Actor, original_requester_id: str | None) -> None:
    """Raises RequestError INVALID_REQUEST if a service cancels without a requester."""
    if actor.is_service and original_requester_id is None:
        raise invalid_request({"originalRequesterId": "is required when a service cancels"})


def require_may_cancel(
    actor: Actor,
    scope: Scope,
    request_id: str,
    requester_id: str | None,
    original_requester_id: str | None,
) -> None:
    """Raises RequestError NOT_YOUR_REQUEST if the caller may not cancel.

    `requester_id` is None if the request has no reservation on the budget. An ordinary user must be
    the requester. A service must name the requester. FP&A and admins may cancel for any requester.
    """
    if scope is Scope.OWN and not (
        requester_id is not None and requester_id == actor.user_id == original_requester_id
    ):
        raise RequestError(
            Code.NOT_YOUR_REQUEST,
            "You can cancel only your own requests. Send your own id as originalRequesterId.",
            requestId=request_id,
        )
    if actor.is_service and requester_id is not None and requester_id != original_requester_id:
        raise RequestError(
            Code.NOT_YOUR_REQUEST,
            "originalRequesterId is not the requester of this reservation. "
            "Send the requester's id.",
            requestId=request_id,
        )


def require_held(balance: Balance, held_minor: int, amount_minor: int) -> None:
    """Raises RequestError AMOUNT_EXCEEDS_RESERVED if the request holds less than the amount."""
    if amount_minor > held_minor:
        held, amount = balance.text(held_minor), balance.text(amount_minor)
        raise RequestError(
            Code.AMOUNT_EXCEEDS_RESERVED,
            f"Amount exceeds reserved: this request holds {held} on this budget, "
            f"{amount} was to be released.",
            amountReleased=0,
            amountHeld=balance.number(held_minor),
            newAvailable=balance.number(balance.available_minor),
        )
