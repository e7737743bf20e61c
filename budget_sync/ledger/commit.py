"""commit: spend reserved money."""

from __future__ import annotations

from typing import Any

from budget_sync.database import Prepared, transact
from budget_sync.database.models import BudgetCheckLog, Reservation
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.domain.request_models import CommitRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, policy, reservations
from budget_sync.ledger.idempotency import IdempotencyKey
from budget_sync.ledger.movements import LedgerBudget, ReservationRef
from budget_sync.ledger.policy import CommitAmounts


def _of_request(value: Any, table: Any) -> Any:
    return (
        table.select(table.requestId)
        .where((table.customerId == value.customer_id) & (table.requestId == value.request_id))
        .limit(1)
    )


_RESERVED = Prepared(lambda value: _of_request(value, Reservation))
_CHECKED = Prepared(lambda value: _of_request(value, BudgetCheckLog))


def commit(actor: Actor, request: CommitRequest, *, idempotency_key: str | None = None) -> Reply:
    """Move reserved money to committed.

    An amount beyond the reservation is accepted only if the budget has it available. Raises
    RequestError FORBIDDEN, INVALID_CUSTOMER, INVALID_REQUEST, BUDGET_NOT_FOUND, REQUEST_NOT_FOUND,
    IDEMPOTENCY_KEY_REUSED, NO_OPEN_RESERVATION, INSUFFICIENT_BUDGET, BUDGET_DELETED, or an error
    of `transact`.
    """
    movements.require_customer(actor, request.customer_id)
    require(actor, Action.COMMIT)

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
        if reservation is None:
            is_known = _is_known(budget, request.request_id)
            policy.require_known_request(request.request_id, is_known=is_known)
        call = f"commit:{amount_minor}:{'final' if request.final else 'partial'}"
        key = IdempotencyKey.of(actor, budget.customer_id, "commit", idempotency_key, request)
        replay = key.stored() or key.store(reservations.replay_of(reservation, call))
        if replay:
            return replay
        if reservation is None or reservation.status != "open":
            raise policy.no_open_reservation(request.request_id)
        return key.store(_spend(actor, budget, reservation, request, amount_minor, call))

    return transact(work)


def _is_known(budget: LedgerBudget, request_id: str) -> bool:
    """Whether the request was ever checked or reserved, on any budget of the customer."""
    return any(
        query.first(customer_id=budget.customer_id, request_id=request_id)
        for query in (_RESERVED, _CHECKED)
    )


def _spend(
    actor: Actor,
    budget: LedgerBudget,
    reservation: Any,
    request: CommitRequest,
    amount_minor: int,
    call: str,
) -> Reply:
    """Move the money, record it, and release the rest if the commit is final."""
    held_minor = reservation.heldMinor
    amounts = policy.split_commit(held_minor, amount_minor, final=request.final)
    after = _move(budget, amounts, held_minor, amount_minor)
    movements.record_movement(
        actor,
        "COMMIT",
        budget,
        after,
        ReservationRef.of(reservation),
        held_before_minor=held_minor,
        held_after_minor=amounts.left_minor,
        reason=request.reason or "Request fulfilled",
        external_ref=request.external_ref,
    )
    released_minor = amounts.released_minor
    if released_minor:
        reason = "Remainder released by the final commit"
        after = reservations.return_money(
            actor, after, reservation, amounts.left_minor, released_minor, reason
        )
    reply = reservations.settled_reply(
        after,
        reservation,
        amounts.left_minor - released_minor,
        amountCommitted=amount_minor,
        amountReleased=released_minor,
    )
    reservations.settle(
        reservation,
        committed_minor=amount_minor,
        released_minor=released_minor,
        exceeded_minor=amounts.exceeded_minor,
        call=call,
        reply=reply,
    )
    return reply


def _move(
    budget: LedgerBudget, amounts: CommitAmounts, held_minor: int, amount_minor: int
) -> LedgerBudget:
    """Move the money to committed, if the budget covers what exceeds the reservation."""
    after = movements.move(
        budget,
        reserved_minor=-amounts.taken_minor,
        committed_minor=amount_minor,
        within_budget=amounts.exceeded_minor > 0,
    )
    if after is None:
        is_deleted = budget.deleted_at is not None
        raise policy.commit_error(
            budget.id, budget.balance, held_minor, amount_minor, is_deleted=is_deleted
        )
    return after
