"""amend: change what a request holds, move it to another budget, or extend it."""

from __future__ import annotations

from typing import Any, NamedTuple

from budget_sync.database import audit_log, transact
from budget_sync.domain.ids import new_id
from budget_sync.domain.permissions import Action, Actor, Scope, require, require_overspend
from budget_sync.domain.request_models import AmendRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, past_movements, policy, reservations
from budget_sync.ledger.approvals import approval_of
from budget_sync.ledger.commit import is_known_request
from budget_sync.ledger.idempotency import IdempotencyKey
from budget_sync.ledger.movements import LedgerBudget, ReservationRef
from budget_sync.ledger.policy import Approval
from budget_sync.ledger.reservations import Closing, Expiry
from budget_sync.ledger.reserve import has_own_check, insert_reservation, is_held_by_other


class _Amendment(NamedTuple):
    """An amendment of an open reservation: the caller, the facts and the amount."""

    actor: Actor
    request: AmendRequest
    reservation: Any
    amount_minor: int
    approval: Approval | None

    @property
    def held_minor(self) -> int:
        """The amount held before the amendment."""
        held: int = self.reservation.heldMinor
        return held


def amend(actor: Actor, request: AmendRequest, *, idempotency_key: str | None = None) -> Reply:
    """Set the total that a request holds; on `to_budget_id`, if that is another budget.

    The same amount as in the reservation's latest amendment returns the reply to that. Raises
    RequestError FORBIDDEN, OVERSPEND_NOT_ALLOWED, INVALID_CUSTOMER, INVALID_REQUEST,
    BUDGET_NOT_FOUND, REQUEST_NOT_FOUND, NOT_YOUR_REQUEST, IDEMPOTENCY_KEY_REUSED,
    NO_OPEN_RESERVATION, AMEND_OUT_OF_DATE, REQUEST_CONFLICT, CHECK_REQUIRED, BUDGET_DELETED,
    INSUFFICIENT_BUDGET, AMOUNT_TOO_LARGE, or an error of `transact`.
    """
    movements.require_customer(actor, request.customer_id)
    moves = request.to_budget_id not in (None, request.budget_id)
    policy.require_change(request.amount, moves=moves, extends=request.extend)
    scope = require(actor, Action.RESERVE)
    if request.over_budget:
        require_overspend(actor)

    def work() -> Reply:
        budget, target, reservation = _lock(actor, request, moves=moves)
        policy.require_same_currency(budget.balance, target.balance)
        sent_minor = _sent_minor(budget, request)
        approval = _authorize(actor, scope, target, request, reservation)
        call = f"{reservations.TRANSFER}{target.id}:{sent_minor}"
        key = IdempotencyKey.of(actor, budget.customer_id, "amend", idempotency_key, request)
        replay = key.stored() or key.store(
            reservations.replay_of(reservation, call)
            if moves
            else _replay(budget, request, reservation, sent_minor)
        )
        if replay:
            return replay
        if reservation is None or reservation.status != "open":
            moved_to = reservations.moved_to(reservation)
            raise policy.no_open_reservation(request.request_id, moved_to)
        held_minor = reservation.heldMinor
        policy.require_version(
            reservation.id, budget.balance, held_minor, reservation.version, request.if_version
        )
        amount_minor = held_minor if sent_minor is None else sent_minor
        if scope is Scope.OWN and (moves or amount_minor > held_minor):
            has_check = has_own_check(actor, target, request.request_id, amount_minor)
            policy.require_own_check(request.request_id, has_own_check=has_check)
        amendment = _Amendment(actor, request, reservation, amount_minor, approval)
        if moves:
            return key.store(_transfer(budget, target, amendment, call))
        return key.store(_change(budget, amendment))

    return transact(work)


def _lock(
    actor: Actor, request: AmendRequest, *, moves: bool
) -> tuple[LedgerBudget, LedgerBudget, Any]:
    """The budget, the target budget (the same if the hold stays), and the request's reservation."""
    if not moves or request.to_budget_id is None:
        budget, reservation = movements.lock_budget(
            actor,
            request.budget_id,
            request.customer_id,
            movements.RESERVATION,
            request_id=request.request_id,
        )
        return budget, budget, reservation
    budget, target = movements.lock_two_budgets(
        actor, request.budget_id, request.to_budget_id, request.customer_id
    )
    reservation = _reservation_on(budget, request.request_id)
    return budget, target, reservation


def _sent_minor(budget: LedgerBudget, request: AmendRequest) -> int | None:
    """The amount of the body in minor units; None without one."""
    if request.amount is None:
        return None
    balance = budget.balance
    return policy.require_minor(request.amount, balance.currency, balance.exponent)


def _authorize(
    actor: Actor, scope: Scope, target: LedgerBudget, request: AmendRequest, reservation: Any
) -> Approval | None:
    """Require that the caller may amend the reservation; returns the over-budget approval.

    Raises RequestError NOT_YOUR_REQUEST, REQUEST_NOT_FOUND or OVERSPEND_NOT_ALLOWED.
    """
    requester_id = reservation.requesterId if reservation else None
    policy.require_own_reservation(actor, scope, request.request_id, requester_id)
    if reservation is None:
        known = is_known_request(target.customer_id, request.request_id)
        policy.require_known_request(request.request_id, is_known=known)
    elif scope is Scope.OWN and target.id != reservation.budgetId:
        is_held = is_held_by_other(actor, target, request.request_id)
        policy.require_not_held_by_other(request.request_id, is_held_by_other=is_held)
    return approval_of(actor, target, request.request_id, request.over_budget, requester_id)


def _reservation_on(budget: LedgerBudget, request_id: str) -> Any:
    return movements.RESERVATION.first(
        customer_id=budget.customer_id, request_id=request_id, budget_id=budget.id
    )


def _replay(
    budget: LedgerBudget, request: AmendRequest, reservation: Any, amount_minor: int | None
) -> Reply | None:
    """The reply to the latest amendment, if that set this amount and nothing changed since.

    A call that also extends is never a replay: it extends again, which does no harm.
    """
    if (
        reservation is None
        or amount_minor is None
        or amount_minor != reservation.heldMinor
        or request.extend
    ):
        return None
    latest = past_movements.movement_at(budget, reservation.version)
    if latest is None or latest.action not in ("AMEND", "OVER_BUDGET"):
        return None
    if request.if_version is not None:
        # The caller amended another version, even if to the same amount.
        before = past_movements.version_before(reservation, latest.version)
        if request.if_version != before:
            return None
    previous_minor = amount_minor - latest.reserved_delta_minor
    if not previous_minor:
        # The request held nothing before: the reserve itself was approved over budget.
        return None
    reply = _reply(
        budget,
        reservation,
        previous_minor,
        amount_minor,
        Expiry(reservations.time_text(reservation.expiresAt)),
        version=latest.version,
        available_minor=latest.available_minor,
    )
    return Reply(reply.text, replayed=True)


def _change(budget: LedgerBudget, amendment: _Amendment) -> Reply:
    """Change the amount on the same budget, extend the hold, or both."""
    reservation = amendment.reservation
    adjusted_minor = amendment.amount_minor - amendment.held_minor
    after, expiry = budget, _expiry(amendment)
    if adjusted_minor:
        after = _adjust(budget, amendment, adjusted_minor)
    # A hold that never expired and never will is not extended.
    if amendment.request.extend and (expiry.at or reservation.expiresAt):
        after = _extend(after, amendment, expiry)
    if after is not budget:
        reservations.settle(reservation, after, adjusted_minor=adjusted_minor, expiry=expiry)
    return _reply(
        after,
        reservation,
        amendment.held_minor,
        amendment.amount_minor,
        expiry,
        version=reservation.version if after is budget else after.version,
    )


def _expiry(amendment: _Amendment) -> Expiry:
    """When the hold expires after the amendment."""
    reservation = amendment.reservation
    if amendment.request.extend:
        return reservations.new_expiry(reservation.customerId)
    return Expiry(reservations.time_text(reservation.expiresAt))


def _adjust(budget: LedgerBudget, amendment: _Amendment, adjusted_minor: int) -> LedgerBudget:
    """Add to the hold, over budget if that is approved, or return a part of it; record that."""
    action, reason, approved_by = "AMEND", amendment.request.reason, None
    if adjusted_minor < 0:
        after = movements.move_always(budget, reserved_minor=adjusted_minor)
    else:
        after, approval = _set_aside(budget, amendment, adjusted_minor)
        if approval:
            action, reason, approved_by = "OVER_BUDGET", approval.reason, approval.approver
    movements.record_movement(
        amendment.actor,
        action,
        budget,
        after,
        ReservationRef.of(amendment.reservation),
        old_minor=amendment.held_minor,
        new_minor=amendment.amount_minor,
        reason=reason,
        approved_by=approved_by,
    )
    return after


def _set_aside(
    budget: LedgerBudget, amendment: _Amendment, amount_minor: int
) -> tuple[LedgerBudget, Approval | None]:
    """Reserve an amount on a live budget; returns also the approval, if it was needed."""
    policy.require_live_budget(budget.id, is_deleted=budget.deleted_at is not None)
    after = movements.move(budget, reserved_minor=amount_minor, within_budget=True)
    if after is not None:
        return after, None
    balance = budget.balance
    approval = policy.require_approval(budget.id, balance, amount_minor, amendment.approval)
    policy.require_below_ceiling(budget.id, balance, amount_minor)
    return movements.move_always(budget, reserved_minor=amount_minor), approval


def _extend(budget: LedgerBudget, amendment: _Amendment, expiry: Expiry) -> LedgerBudget:
    """Record that the hold was extended. It is a change of the budget without an amount."""
    after = movements.move_always(budget)
    reservation = amendment.reservation
    requester = ReservationRef.of(reservation).requester
    is_own = requester.id == amendment.actor.user_id
    audit_log.record(
        amendment.actor,
        "EXTEND",
        customer_id=budget.customer_id,
        budget_id=budget.id,
        version=after.version,
        balance=after.balance,
        field="expiresAt",
        subject=requester.id,
        requestId=reservation.requestId,
        reservationId=reservation.id,
        oldValue=reservations.time_text(reservation.expiresAt),
        newValue=expiry.at,
        onBehalfOf=None if is_own else requester.label,
        reason=amendment.request.reason,
    )
    return after


def _transfer(
    budget: LedgerBudget, target: LedgerBudget, amendment: _Amendment, call: str
) -> Reply:
    """Move the hold to another budget, where a new reservation keeps its requester and age."""
    reservation = amendment.reservation
    open_there = _reservation_on(target, reservation.requestId)
    held_there_minor = open_there.heldMinor if open_there else 0
    policy.require_free_target(target.id, target.balance, held_there_minor)
    target_after, approval = _set_aside(target, amendment, amendment.amount_minor)
    after = movements.move_always(budget, reserved_minor=-amendment.held_minor)
    new_ref = ReservationRef.of(reservation)._replace(id=new_id("res"))
    _record_transfer((budget, after), (target, target_after), amendment, approval, new_ref)
    expiry = _expiry(amendment)
    insert_reservation(
        target_after,
        new_ref,
        amendment.amount_minor,
        expiry.at,
        moved_from=reservation,
    )
    reply = _reply(
        target_after,
        reservation,
        amendment.held_minor,
        amendment.amount_minor,
        expiry,
        version=target_after.version,
        reservation_id=new_ref.id,
    )
    reservations.settle(
        reservation, after, Closing(call, reply), adjusted_minor=-amendment.held_minor
    )
    return reply


def _record_transfer(
    source: tuple[LedgerBudget, LedgerBudget],
    target: tuple[LedgerBudget, LedgerBudget],
    amendment: _Amendment,
    approval: Approval | None,
    new_ref: ReservationRef,
) -> None:
    """Write the audit row of each budget, given before and after the move."""
    reason, transfer_id = amendment.request.reason, new_id("call")
    movements.record_movement(
        amendment.actor,
        "TRANSFER",
        *source,
        ReservationRef.of(amendment.reservation),
        old_minor=amendment.held_minor,
        new_minor=0,
        reason=reason,
        transfer_id=transfer_id,
    )
    movements.record_movement(
        amendment.actor,
        "OVER_BUDGET" if approval else "TRANSFER",
        *target,
        new_ref,
        old_minor=0,
        new_minor=amendment.amount_minor,
        reason=approval.reason if approval else reason,
        approved_by=approval.approver if approval else None,
        transfer_id=transfer_id,
    )


def _reply(
    budget: LedgerBudget,
    reservation: Any,
    previous_minor: int,
    amount_minor: int,
    expiry: Expiry,
    *,
    version: int,
    reservation_id: str | None = None,
    available_minor: int | None = None,
) -> Reply:
    """The reply to an amendment. `budget` holds the money afterwards.

    Without `available_minor`, it is what the budget has available now.
    """
    balance = budget.balance
    available_minor = balance.available_minor if available_minor is None else available_minor
    data: dict[str, object] = {
        "success": True,
        "reservationId": reservation_id or reservation.id,
        "budgetId": budget.id,
        "requestId": reservation.requestId,
        "previousAmount": balance.number(previous_minor),
        "amountReserved": balance.number(amount_minor),
        "newAvailable": balance.number(available_minor),
        "version": version,
    }
    if expiry.at is not None:
        data["expiresAt"] = expiry.at
    return Reply.of(data)
