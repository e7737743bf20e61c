"""release: return reserved money to the budget."""

from __future__ import annotations

from typing import Any

from budget_sync.database import transact
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.domain.request_models import ReleaseAction, ReleaseRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, policy, reservations
from budget_sync.ledger.decline import current_decline
from budget_sync.ledger.idempotency import IdempotencyKey
from budget_sync.ledger.movements import LedgerBudget
from budget_sync.ledger.reservations import Closing

#: The reasons in the audit log if the body has none.
_REASONS = {
    ReleaseAction.CANCEL: "Request cancelled by user",
    ReleaseAction.REJECT: "Request rejected",
    ReleaseAction.MANUAL: "Budget released manually",
}


def release(actor: Actor, request: ReleaseRequest, *, idempotency_key: str | None = None) -> Reply:
    """Return reserved money to the budget, all of it or a part.

    Raises RequestError FORBIDDEN, INVALID_CUSTOMER, INVALID_REQUEST, BUDGET_NOT_FOUND,
    NOT_YOUR_REQUEST, IDEMPOTENCY_KEY_REUSED, AMOUNT_EXCEEDS_RESERVED, or an error of `transact`.
    """
    movements.require_customer(actor, request.customer_id)
    cancels = request.action is ReleaseAction.CANCEL
    if cancels:
        policy.require_requester_named(actor, request.original_requester_id)
    scope = require(actor, Action.CANCEL if cancels else Action.RELEASE)

    def work() -> Reply:
        budget, reservation = movements.lock_budget(
            actor,
            request.budget_id,
            request.customer_id,
            movements.RESERVATION,
            request_id=request.request_id,
        )
        balance = budget.balance
        amount_minor = policy.require_minor(request.amount, balance.currency, balance.exponent)
        if cancels:
            requester_id = reservation.requesterId if reservation else None
            policy.require_may_cancel(
                actor, scope, request.request_id, requester_id, request.original_requester_id
            )
        call = f"release:{request.action}:{amount_minor}"
        key = IdempotencyKey.of(actor, budget.customer_id, "release", idempotency_key, request)
        replay = key.stored() or key.store(reservations.replay_of(reservation, call))
        if replay:
            return replay
        held_minor = reservation.heldMinor if reservation else 0
        _require_held(budget, request.request_id, reservation, amount_minor)
        reason = request.reason or _REASONS[request.action]
        after = reservations.return_money(
            actor, budget, reservation, held_minor, amount_minor, reason
        )
        reply = reservations.settled_reply(
            after,
            request.request_id,
            reservation.id,
            held_minor - amount_minor,
            amountReleased=amount_minor,
        )
        closing = Closing(call, reply)
        reservations.settle(reservation, after, closing, released_minor=amount_minor)
        return key.store(reply)

    return transact(work)


def _require_held(
    budget: LedgerBudget, request_id: str, reservation: Any, amount_minor: int
) -> None:
    """Raises RequestError AMOUNT_EXCEEDS_RESERVED if the request holds less than the amount.

    The error also says if the request holds nothing because FP&A has declined it.
    """
    held_minor = reservation.heldMinor if reservation else 0
    if not held_minor:
        declined = current_decline(budget.customer_id, request_id)
        policy.require_not_declined(budget.balance, amount_minor, declined)
    moved_to = reservations.moved_to(reservation)
    policy.require_held(budget.balance, held_minor, amount_minor, moved_to)
