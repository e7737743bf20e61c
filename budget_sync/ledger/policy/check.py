"""The decisions of check."""

from __future__ import annotations

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import MoneyError, currency_exponent, rescaled
from budget_sync.domain.permissions import Actor, Scope
from budget_sync.ledger.policy.amounts import insufficient_reason
from budget_sync.ledger.policy.values import CheckDecision, CustomerDefaults


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
