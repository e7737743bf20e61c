"""reserve: set money aside on a budget for a request."""

from __future__ import annotations

from typing import Any

from peewee import JOIN

from budget_sync.database import Prepared, lock_name, transact
from budget_sync.database.models import Budget, BudgetCheckLog, Customer, Reservation, User
from budget_sync.domain import clock
from budget_sync.domain.ids import new_id
from budget_sync.domain.permissions import Action, Actor, Scope, require, require_overspend
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, policy, reservations
from budget_sync.ledger.approvals import approval_of
from budget_sync.ledger.idempotency import IdempotencyKey
from budget_sync.ledger.movements import LedgerBudget, ReservationRef
from budget_sync.ledger.policy import Approval, Requester

_HELD_BY_OTHER = Prepared(
    lambda value: (
        Reservation.select(Reservation.seq)
        .where(
            (Reservation.customerId == value.customer_id)
            & (Reservation.requestId == value.request_id)
            & (Reservation.requesterId != value.user_id)
        )
        .limit(1)
    )
)


def _checks(value: Any, table: Any = BudgetCheckLog) -> Any:
    return table.select(table.id).where(
        (table.customerId == value.customer_id) & (table.requestId == value.request_id)
    )


_NEWER_CHECK = Prepared(
    lambda value: (
        _checks(value)
        .where((BudgetCheckLog.budgetId == value.budget_id) & (BudgetCheckLog.id > value.after))
        .limit(1)
    )
)
_OWN_CHECK = Prepared(
    lambda value: (
        _checks(value)
        .where(
            (BudgetCheckLog.checkedBy == value.principal)
            & (BudgetCheckLog.budgetId == value.budget_id)
            & (BudgetCheckLog.amountMinor >= value.amount_minor)
        )
        .limit(1)
    )
)


def _last_check(value: Any, table: Any, *, for_user: bool) -> Any:
    """The query for the check that names the requester: the request's last one.

    Any authenticated check supersedes all anonymous ones. Of each kind, the one that was logged
    last counts, by sequence, because clocks may jump. With `for_user`, only checks for that user
    count.
    """
    checks = _checks(value, table)
    if for_user:
        checks = checks.where(table.userId == value.user_id)
    return checks.order_by(table.checkedBy.is_null(), table.id.desc()).limit(1)


def _history(value: Any, *, for_user: bool) -> Any:
    """The query for the history of a request on a budget, in one row.

    The row has the columns of the request's open reservation, or else of its latest closed one. It
    also has the user of the request's last check: the name and email that the check logged, and the
    current ones if the user exists.

    This is not part of the query that locks the budget, because it must run after that.
    """
    reservation, check = Reservation.alias(), BudgetCheckLog.alias()
    last_reservation = movements.latest_reservation(value, reservation, reservation.seq)
    last_check = _last_check(value, check, for_user=for_user)
    user_of_check = (User.id == BudgetCheckLog.userId) & (
        User.customerId == BudgetCheckLog.customerId
    )
    return (
        Budget.select(
            Reservation.id,
            Reservation.requestId,
            Reservation.requesterId,
            Reservation.requesterName,
            Reservation.requesterEmail,
            Reservation.amountMinor,
            Reservation.status,
            Reservation.closedAfterCheck,
            Reservation.reserveReply,
            Reservation.closingCall,
            Reservation.closingReply,
            Customer.holdDays,
            BudgetCheckLog.userId,
            BudgetCheckLog.userName,
            BudgetCheckLog.userEmail,
            User.name,
            User.email,
        )
        .join(Customer, on=(Customer.id == Budget.customerId))
        .join(Reservation, JOIN.LEFT_OUTER, on=(Reservation.seq == last_reservation))
        .join(BudgetCheckLog, JOIN.LEFT_OUTER, on=(BudgetCheckLog.id == last_check))
        .join(User, JOIN.LEFT_OUTER, on=user_of_check)
        .where(Budget.id == value.budget_id)
    )


_HISTORY = Prepared(lambda value: _history(value, for_user=False))
_HISTORY_FOR_USER = Prepared(lambda value: _history(value, for_user=True))
_USER = Prepared(
    lambda value: User.select(User.name, User.email).where(
        (User.id == value.user_id) & (User.customerId == value.customer_id)
    )
)
_RESERVED = (
    "id",
    "customerId",
    "budgetId",
    "requestId",
    "requesterId",
    "requesterName",
    "requesterEmail",
    "currencyExponent",
    "amountMinor",
    "heldMinor",
    "approvedMinor",
    "approvedAfterCheck",
    "version",
    "status",
    "createdAt",
    "expiresAt",
    "reserveReply",
)
_INSERT = Prepared(
    lambda value: Reservation.insert({column: getattr(value, column) for column in _RESERVED})
)


def reserve(actor: Actor, request: ReserveRequest, *, idempotency_key: str | None = None) -> Reply:
    """Set the amount aside; the same request again returns the first reply.

    Raises RequestError FORBIDDEN, OVERSPEND_NOT_ALLOWED, INVALID_CUSTOMER, INVALID_REQUEST,
    BUDGET_NOT_FOUND, NOT_YOUR_REQUEST, IDEMPOTENCY_KEY_REUSED, REQUEST_CONFLICT,
    RESERVATION_CLOSED, CHECK_REQUIRED, BUDGET_DELETED, INSUFFICIENT_BUDGET, AMOUNT_TOO_LARGE, or
    an error of `transact`.
    """
    movements.require_customer(actor, request.customer_id)
    scope = require(actor, Action.RESERVE)
    if request.over_budget:
        require_overspend(actor)

    def work() -> Reply:
        budget, history = movements.lock_budget(
            actor,
            request.budget_id,
            request.customer_id,
            _HISTORY if request.user_id is None else _HISTORY_FOR_USER,
            request_id=request.request_id,
            user_id=request.user_id,
        )
        balance = budget.balance
        amount_minor = policy.require_minor(
            request.amount, balance.currency, balance.exponent, request.currency
        )
        if scope is Scope.OWN:
            is_held = is_held_by_other(actor, budget, request.request_id)
            policy.require_not_held_by_other(request.request_id, is_held_by_other=is_held)
        requester = _requester(actor, scope, budget, request, history)
        approval = approval_of(actor, budget, request.request_id, request.over_budget, requester.id)
        key = IdempotencyKey.of(actor, budget.customer_id, "reserve", idempotency_key, request)
        replay = key.stored() or key.store(_replay(budget, history, amount_minor))
        if replay:
            return replay
        if history.status is not None:
            has_newer_check = _has_newer_check(budget, history)
            if not has_newer_check and _was_moved(history, amount_minor):
                return key.store(Reply(history.reserveReply, replayed=True))
            policy.require_newer_check(history.id, has_newer_check=has_newer_check)
        if scope is Scope.OWN:
            has_check = has_own_check(actor, budget, request.request_id, amount_minor)
            policy.require_own_check(request.request_id, has_own_check=has_check)
        policy.require_live_budget(budget.id, is_deleted=budget.deleted_at is not None)
        expires_at = reservations.expires_after(history.holdDays)
        return key.store(
            _set_aside(actor, budget, request, requester, approval, amount_minor, expires_at)
        )

    return transact(work)


def is_held_by_other(actor: Actor, budget: LedgerBudget, request_id: str) -> bool:
    """Whether another user has reserved for the request, on any budget of the customer."""
    # Two users may reserve for the same request on two budgets at the same time.
    lock_name(f"request {budget.customer_id} {request_id}")
    other = _HELD_BY_OTHER.first(
        customer_id=budget.customer_id, request_id=request_id, user_id=actor.user_id
    )
    return other is not None


def _requester(
    actor: Actor, scope: Scope, budget: LedgerBudget, request: ReserveRequest, history: Any
) -> Requester:
    """The requester, with the name and email that the reservation stores."""
    holder = last_checked_for = None
    if history.status == "open":
        holder = Requester(history.requesterId, history.requesterName, history.requesterEmail)
    elif history.name is not None:
        last_checked_for = Requester(history.userId, history.name, history.email)
    elif history.userId is not None:
        last_checked_for = Requester(history.userId, history.userName, history.userEmail)
    requester = policy.choose_requester(
        actor,
        scope,
        user_id=request.user_id,
        holder=holder,
        last_checked_for=last_checked_for,
    )
    if isinstance(requester, Requester):
        return requester
    user = _USER.first(user_id=requester, customer_id=budget.customer_id)
    return Requester(requester, *(user or (requester, "")))


def _replay(budget: LedgerBudget, history: Any, amount_minor: int) -> Reply | None:
    """The first reply if the reservation is still open, else None.

    Raises RequestError REQUEST_CONFLICT if the amount differs.
    """
    if history.status != "open":
        return None
    policy.require_same_amount(budget.balance, history.id, history.amountMinor, amount_minor)
    return Reply(history.reserveReply, replayed=True)


def _was_moved(history: Any, amount_minor: int) -> bool:
    """Whether the reservation of that amount moved to another budget, which still holds the money.

    Then a late duplicate of the reserve gets the first reply.
    """
    return history.amountMinor == amount_minor and reservations.is_still_held(history)


def _has_newer_check(budget: LedgerBudget, history: Any) -> bool:
    """Whether a check was logged after the reservation closed: by sequence, as clocks may jump."""
    newer_check = _NEWER_CHECK.first(
        customer_id=budget.customer_id,
        request_id=history.requestId,
        budget_id=budget.id,
        after=history.closedAfterCheck,
    )
    return newer_check is not None


def has_own_check(actor: Actor, budget: LedgerBudget, request_id: str, amount_minor: int) -> bool:
    """Whether the caller checked the request on this budget for at least the amount."""
    own_check = _OWN_CHECK.first(
        customer_id=budget.customer_id,
        request_id=request_id,
        principal=actor.principal,
        budget_id=budget.id,
        amount_minor=amount_minor,
    )
    return own_check is not None


def _set_aside(
    actor: Actor,
    budget: LedgerBudget,
    request: ReserveRequest,
    requester: Requester,
    approval: Approval | None,
    amount_minor: int,
    expires_at: str | None,
) -> Reply:
    """Move the money, over budget if that is approved, and store the reservation."""
    balance = budget.balance
    action, reason, approved_by = "RESERVE", request.reason or "Budget reserved for request", None
    after = movements.move(budget, reserved_minor=amount_minor, within_budget=True)
    if after is None:
        approval = policy.require_approval(budget.id, balance, amount_minor, approval)
        policy.require_below_ceiling(budget.id, balance, amount_minor)
        action, reason, approved_by = "OVER_BUDGET", approval.reason, approval.approver
        after = movements.move_always(budget, reserved_minor=amount_minor)
    reservation_id = new_id("res")
    reservation = ReservationRef(reservation_id, request.request_id, requester)
    reply = insert_reservation(after, reservation, amount_minor, expires_at)
    movements.record_movement(
        actor,
        action,
        budget,
        after,
        reservation,
        old_minor=0,
        new_minor=amount_minor,
        reason=reason,
        approved_by=approved_by,
    )
    return reply


def insert_reservation(
    after: LedgerBudget,
    reservation: ReservationRef,
    amount_minor: int,
    expires_at: str | None,
    moved_from: Any = None,
) -> Reply:
    """Store a new reservation, which holds the whole amount; returns the reply to its reserve.

    `after` is the budget with the amount reserved. `moved_from` is the reservation of the same
    money on another budget: the new one keeps its age and its approval.
    """
    balance = after.balance
    data: dict[str, object] = {
        "success": True,
        "reservationId": reservation.id,
        "budgetId": after.id,
        "requestId": reservation.request_id,
        "amountReserved": balance.number(amount_minor),
        "newAvailable": balance.number(balance.available_minor),
    }
    if expires_at is not None:
        data["expiresAt"] = expires_at
    reply = Reply.of(data)
    _INSERT.write(
        id=reservation.id,
        customerId=after.customer_id,
        budgetId=after.id,
        requestId=reservation.request_id,
        requesterId=reservation.requester.id,
        requesterName=reservation.requester.name,
        requesterEmail=reservation.requester.email,
        currencyExponent=balance.exponent,
        amountMinor=amount_minor,
        heldMinor=amount_minor,
        approvedMinor=moved_from and moved_from.approvedMinor,
        approvedAfterCheck=moved_from and moved_from.approvedAfterCheck,
        version=after.version,
        status="open",
        createdAt=reservations.time_text(moved_from.createdAt)
        if moved_from
        else clock.to_text(clock.now()),
        expiresAt=expires_at,
        reserveReply=reply.text,
    )
    return reply
