"""Decisions about amounts that several verbs share."""

from __future__ import annotations

from decimal import Decimal

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import LIMIT_MINOR, MoneyError, to_minor


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


def require_live_budget(budget_id: str, *, is_deleted: bool) -> None:
    """Raises RequestError BUDGET_DELETED if the budget takes no new reservations."""
    if is_deleted:
        raise RequestError(
            Code.BUDGET_DELETED,
            "The budget was removed and takes no new reservations. Choose another budget.",
            budgetId=budget_id,
        )


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
