"""The decisions of release."""

from __future__ import annotations

from typing import Any

from budget_sync.domain.balance import Balance
from budget_sync.domain.decisions import Decision
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Actor, Scope


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


def require_not_declined(balance: Balance, amount_minor: int, declined: Decision | None) -> None:
    """Raises RequestError AMOUNT_EXCEEDS_RESERVED if FP&A has declined the request.

    It is the error for a request that holds nothing, and also says that it was declined.
    """
    if declined is not None:
        raise RequestError(
            Code.AMOUNT_EXCEEDS_RESERVED,
            f"Amount exceeds reserved: this request holds 0 on this budget, "
            f"{balance.text(amount_minor)} was to be released. FP&A has declined the request.",
            amountReleased=0,
            amountHeld=0,
            newAvailable=balance.number(balance.available_minor),
            declined=True,
            decision=declined.to_json(),
        )


def require_held(
    balance: Balance, held_minor: int, amount_minor: int, moved_to: str | None = None
) -> None:
    """Raises RequestError AMOUNT_EXCEEDS_RESERVED if the request holds less than the amount.

    `moved_to` is the budget to which the reservation was moved.
    """
    if amount_minor > held_minor:
        held, amount = balance.text(held_minor), balance.text(amount_minor)
        moved: dict[str, Any] = {} if moved_to is None else {"movedToBudgetId": moved_to}
        raise RequestError(
            Code.AMOUNT_EXCEEDS_RESERVED,
            f"Amount exceeds reserved: this request holds {held} on this budget, "
            f"{amount} was to be released.",
            amountReleased=0,
            amountHeld=balance.number(held_minor),
            newAvailable=balance.number(balance.available_minor),
            **moved,
        )
