"""The decisions of reserve."""

from __future__ import annotations

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Scope
from budget_sync.ledger.policy.values import Requester


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
