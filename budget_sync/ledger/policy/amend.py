"""The decisions of amend."""

from __future__ import annotations

from decimal import Decimal

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Actor, Scope


def require_change(amount: Decimal | None, *, moves: bool, extends: bool) -> None:
    """Raises RequestError INVALID_REQUEST if the body names nothing to change."""
    if amount is None and not moves and not extends:
        raise invalid_request({"amount": "is required without toBudgetId or extend"})


def require_own_reservation(
    actor: Actor, scope: Scope, request_id: str, requester_id: str | None
) -> None:
    """Raises RequestError NOT_YOUR_REQUEST if an ordinary user is not the requester.

    `requester_id` is None if the request has no reservation on the budget.
    """
    if scope is Scope.OWN and requester_id != actor.user_id:
        raise RequestError(
            Code.NOT_YOUR_REQUEST, "You can amend only your own requests.", requestId=request_id
        )


def require_version(
    reservation_id: str, balance: Balance, held_minor: int, version: int, if_version: int | None
) -> None:
    """Raises RequestError AMEND_OUT_OF_DATE if the reservation was changed since `if_version`."""
    if if_version not in (None, version):
        raise RequestError(
            Code.AMEND_OUT_OF_DATE,
            f"The reservation has version {version} and holds {balance.money(held_minor)}. "
            "Read the request, then amend again.",
            reservationId=reservation_id,
            version=version,
            amountHeld=balance.number(held_minor),
        )


def require_same_currency(balance: Balance, target: Balance) -> None:
    """Raises RequestError INVALID_REQUEST if the target budget has another currency."""
    if (target.currency, target.exponent) != (balance.currency, balance.exponent):
        raise invalid_request({"toBudgetId": f"must be a budget in {balance.currency}"})


def require_free_target(budget_id: str, balance: Balance, held_minor: int) -> None:
    """Raises RequestError REQUEST_CONFLICT if the request already holds money on the target."""
    if held_minor:
        raise RequestError(
            Code.REQUEST_CONFLICT,
            f"This request already holds {balance.money(held_minor)} on the budget to move to. "
            "Amend or release that amount first.",
            budgetId=budget_id,
            amountHeld=balance.number(held_minor),
        )
