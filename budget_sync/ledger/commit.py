"""commit: spend reserved money."""

from __future__ import annotations

from typing import Any, NamedTuple

from budget_sync.database import Prepared, transact
from budget_sync.database.models import BudgetCheckLog, Customer, Reservation
from budget_sync.domain.ids import new_id
from budget_sync.domain.permissions import (
    APPROVER_ROLES,
    Action,
    Actor,
    require,
    require_overspend,
)
from budget_sync.domain.request_models import CommitRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, past_movements, policy, reservations
from budget_sync.ledger.approvals import approval_of
from budget_sync.ledger.idempotency import IdempotencyKey
from budget_sync.ledger.movements import LedgerBudget, ReservationRef
from budget_sync.ledger.past_movements import PastMovement
from budget_sync.ledger.policy import (
    Approval,
    CommitAmounts,
    CustomerDefaults,
    InvoiceTolerance,
)
from budget_sync.ledger.reservations import Closing

#: The reason of the release by a final commit.
_REMAINDER = "Remainder released by the final commit"

#: A commit has at most this many audit rows with one `transferId`.
_MOST_ROWS = 2


def _of_request(value: Any, table: Any) -> Any:
    return (
        table.select(table.requestId)
        .where((table.customerId == value.customer_id) & (table.requestId == value.request_id))
        .limit(1)
    )


_RESERVED = Prepared(lambda value: _of_request(value, Reservation))
_CHECKED = Prepared(lambda value: _of_request(value, BudgetCheckLog))
_CUSTOMER = Prepared(
    lambda value: Customer.select(
        Customer.currency,
        Customer.currencyExponent,
        Customer.autoApproveLimitMinor,
        Customer.invoiceToleranceBasisPoints,
        Customer.invoiceToleranceMinor,
    ).where(Customer.id == value.customer_id)
)


class _Commit(NamedTuple):
    """A commit of an open reservation: the caller, the facts and the amounts."""

    actor: Actor
    request: CommitRequest
    reservation: Any
    amounts: CommitAmounts
    amount_minor: int
    approval: Approval | None


def commit(actor: Actor, request: CommitRequest, *, idempotency_key: str | None = None) -> Reply:
    """Move reserved money to committed.

    An amount beyond the reservation is accepted within the customer's invoice tolerance, from FP&A,
    or with an over-budget approval; without the approval, only if the budget has it available.
    Raises RequestError FORBIDDEN, OVERSPEND_NOT_ALLOWED, INVALID_CUSTOMER, INVALID_REQUEST,
    BUDGET_NOT_FOUND, REQUEST_NOT_FOUND, IDEMPOTENCY_KEY_REUSED, EXTERNAL_REF_CONFLICT,
    NO_OPEN_RESERVATION, COMMIT_EXCEEDS_RESERVED, INSUFFICIENT_BUDGET, AMOUNT_TOO_LARGE,
    BUDGET_DELETED, or an error of `transact`.
    """
    movements.require_customer(actor, request.customer_id)
    require(actor, Action.COMMIT)
    if request.over_budget:
        require_overspend(actor)

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
            known = is_known_request(budget.customer_id, request.request_id)
            policy.require_known_request(request.request_id, is_known=known)
        requester_id = reservation.requesterId if reservation else None
        approval = approval_of(actor, budget, request.request_id, request.over_budget, requester_id)
        call = _call(request, amount_minor)
        key = IdempotencyKey.of(actor, budget.customer_id, "commit", idempotency_key, request)
        replay = key.stored() or key.store(
            reservations.replay_of(reservation, call)
            or _replay_by_ref(budget, request, amount_minor)
        )
        if replay:
            return replay
        if reservation is None or reservation.status != "open":
            moved_to = reservations.moved_to(reservation)
            raise policy.no_open_reservation(request.request_id, moved_to)
        amounts = policy.split_commit(reservation.heldMinor, amount_minor, final=request.final)
        chosen = _Commit(actor, request, reservation, amounts, amount_minor, approval)
        return key.store(_spend(budget, chosen, call))

    return transact(work)


def is_known_request(customer_id: str, request_id: str) -> bool:
    """Whether the request was ever checked or reserved, on any budget of the customer."""
    return any(
        query.first(customer_id=customer_id, request_id=request_id)
        for query in (_RESERVED, _CHECKED)
    )


def _call(request: CommitRequest, amount_minor: int) -> str:
    """The text that two commits of a request on a budget share if one repeats the other."""
    kind = "final" if request.final else "partial"
    reference = "" if request.external_ref is None else f":{request.external_ref}"
    return f"commit:{amount_minor}:{kind}{reference}"


def _replay_by_ref(budget: LedgerBudget, request: CommitRequest, amount_minor: int) -> Reply | None:
    """The reply to the request's earlier commit on the budget with the same externalRef.

    Raises RequestError EXTERNAL_REF_CONFLICT if it was for another amount.
    """
    if request.external_ref is None:
        return None
    earlier = past_movements.commits_with_ref(budget, request.request_id, request.external_ref)
    if not earlier:
        return None
    # Before schema version 5, a reference could have several commits.
    same = [each for each in earlier if each.committed_delta_minor == amount_minor]
    first = (same or earlier)[0]
    policy.require_same_ref_amount(
        budget.balance, request.external_ref, first.committed_delta_minor, amount_minor
    )
    return Reply(_reply_of(budget, request.request_id, first).text, replayed=True)


def _reply_of(budget: LedgerBudget, request_id: str, committed: PastMovement) -> Reply:
    """The reply to an earlier commit, from its audit rows."""
    following = past_movements.movement_at(budget, committed.version + 1)
    last, released_minor = committed, 0
    if (
        following
        and following.reservation_id == committed.reservation_id
        and following.action == "RELEASE"
        and following.reason == _REMAINDER
    ):
        last, released_minor = following, -following.reserved_delta_minor
    # The hold was raised by an approval over budget if the commit has two rows.
    rows = past_movements.movements_of_call(budget, committed, _MOST_ROWS)
    exceeded_minor = committed.committed_delta_minor + sum(row.reserved_delta_minor for row in rows)
    return reservations.settled_reply(
        budget,
        request_id,
        committed.reservation_id,
        past_movements.new_minor(budget, last),
        available_minor=last.available_minor,
        **_amounts(committed.committed_delta_minor, released_minor, exceeded_minor),
    )


def _amounts(committed_minor: int, released_minor: int, exceeded_minor: int) -> dict[str, int]:
    """The amounts of a commit's reply. What exceeded the reservation is there only if it did."""
    amounts = {"amountCommitted": committed_minor, "amountReleased": released_minor}
    return amounts | ({"amountExceeded": exceeded_minor} if exceeded_minor else {})


def _spend(budget: LedgerBudget, chosen: _Commit, call: str) -> Reply:
    """Move the money, record it, and release the rest if the commit is final."""
    reservation, amounts = chosen.reservation, chosen.amounts
    after, held_more_minor = _move(budget, chosen)
    released_minor = amounts.released_minor
    if released_minor:
        after = reservations.return_money(
            chosen.actor, after, reservation, amounts.left_minor, released_minor, _REMAINDER
        )
    reply = reservations.settled_reply(
        after,
        reservation.requestId,
        reservation.id,
        amounts.left_minor - released_minor,
        **_amounts(chosen.amount_minor, released_minor, amounts.exceeded_minor),
    )
    reservations.settle(
        reservation,
        after,
        Closing(call, reply),
        committed_minor=chosen.amount_minor,
        released_minor=released_minor,
        exceeded_minor=amounts.exceeded_minor - held_more_minor,
        adjusted_minor=held_more_minor,
    )
    return reply


def _require_may_exceed(budget: LedgerBudget, chosen: _Commit) -> None:
    """Raises RequestError COMMIT_EXCEEDS_RESERVED beyond the invoice tolerance without FP&A.

    That comes after the errors of a budget that is deleted or does not cover the commit.
    """
    actor = chosen.actor
    is_fpa = actor.role in APPROVER_ROLES and not actor.is_service
    if is_fpa or chosen.approval:
        return
    row = _CUSTOMER.first(customer_id=budget.customer_id)
    tolerance_minor = policy.commit_tolerance(
        budget.balance,
        chosen.reservation.heldMinor,
        budget.auto_approve_limit_minor,
        CustomerDefaults(*row[:3]),
        InvoiceTolerance(*row[3:]),
    )
    policy.require_within_tolerance(budget.id, budget.balance, chosen.amounts, tolerance_minor)


def _move(budget: LedgerBudget, chosen: _Commit) -> tuple[LedgerBudget, int]:
    """Move the money to committed; returns the new budget, and by how much the hold was raised.

    If the budget does not cover what exceeds the reservation, an approval first raises the hold
    over budget, as the approval of a reserve does.
    """
    amounts, approval = chosen.amounts, chosen.approval
    after = movements.move(
        budget,
        reserved_minor=-amounts.taken_minor,
        committed_minor=chosen.amount_minor,
        within_budget=amounts.exceeded_minor > 0,
    )
    if after is not None:
        if amounts.exceeded_minor:
            _require_may_exceed(budget, chosen)
        _record(budget, after, chosen, amounts.taken_minor + amounts.left_minor)
        return after, 0
    if approval is None or budget.deleted_at is not None:
        raise policy.commit_error(
            budget.id,
            budget.balance,
            amounts.taken_minor,
            chosen.amount_minor,
            is_deleted=budget.deleted_at is not None,
        )
    policy.require_below_ceiling(budget.id, budget.balance, amounts.exceeded_minor)
    raised = movements.move_always(budget, reserved_minor=amounts.exceeded_minor)
    call_id = new_id("call")
    movements.record_movement(
        chosen.actor,
        "OVER_BUDGET",
        budget,
        raised,
        ReservationRef.of(chosen.reservation),
        old_minor=amounts.taken_minor,
        new_minor=chosen.amount_minor,
        reason=approval.reason,
        approved_by=approval.approver,
        transfer_id=call_id,
    )
    after = movements.move_always(
        raised, reserved_minor=-chosen.amount_minor, committed_minor=chosen.amount_minor
    )
    _record(raised, after, chosen, chosen.amount_minor, call_id)
    return after, amounts.exceeded_minor


def _record(
    before: LedgerBudget,
    after: LedgerBudget,
    chosen: _Commit,
    held_minor: int,
    call_id: str | None = None,
) -> None:
    """Write the audit row of a commit. An approval is named if the commit exceeds the hold."""
    request, approval = chosen.request, chosen.approval
    is_approved = approval is not None and chosen.amounts.exceeded_minor > 0
    approved_reason = approval.reason if approval and is_approved else None
    movements.record_movement(
        chosen.actor,
        "COMMIT",
        before,
        after,
        ReservationRef.of(chosen.reservation),
        old_minor=held_minor,
        new_minor=chosen.amounts.left_minor,
        reason=request.reason or approved_reason or "Request fulfilled",
        approved_by=approval.approver if approval and is_approved else None,
        external_ref=request.external_ref,
        transfer_id=call_id,
    )
