"""reserve: set money aside on a budget for a request."""

from __future__ import annotations

from typing import Any, NamedTuple

from peewee import JOIN

from budget_sync.database import Prepared, lock_name, transact
from budget_sync.database.models import Budget, BudgetCheckLog, Reservation, User
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.ids import new_id
from budget_sync.domain.permissions import (
    APPROVER_ROLES,
    Action,
    Actor,
    Scope,
    require,
    require_overspend,
)
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements as standings
from budget_sync.ledger.idempotency import Scope as KeyScope
from budget_sync.ledger.movements import Claim, Standing

_STRANGERS = Prepared(
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


def _history(value: Any, *, for_user: bool) -> Any:
    """What came before of a request, in one row: the columns of its open reservation on the budget, or else of its latest one;
    and who it was last checked for, by a proven caller, or only where there is none, by an anonymous one: as the check names
    them, and as they are called today, if they are known. With `for_user`, only checks for that user count.

    Not one query with the budget's own, which locks it: what is read here must be as it is once nobody else moves that
    budget's money.
    """
    reservation, check = Reservation.alias(), BudgetCheckLog.alias()
    last_checks = (
        _checks(value, check).where(check.userId == value.user_id)
        if for_user
        else _checks(value, check)
    )
    last_check = last_checks.order_by(check.checkedBy.is_null(), check.id.desc()).limit(1)
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
            BudgetCheckLog.userId,
            BudgetCheckLog.userName,
            BudgetCheckLog.userEmail,
            User.name,
            User.email,
        )
        .join(
            Reservation,
            JOIN.LEFT_OUTER,
            on=(
                Reservation.seq == standings.latest_reservation(value, reservation, reservation.seq)
            ),
        )
        .join(BudgetCheckLog, JOIN.LEFT_OUTER, on=(BudgetCheckLog.id == last_check))
        .join(
            User,
            JOIN.LEFT_OUTER,
            on=(
                (User.id == BudgetCheckLog.userId) & (User.customerId == BudgetCheckLog.customerId)
            ),
        )
        .where(Budget.id == value.budget_id)
    )


_HISTORY = Prepared(lambda value: _history(value, for_user=False))
_HISTORY_FOR_USER = Prepared(lambda value: _history(value, for_user=True))
_USER = Prepared(
    lambda value: User.select(User.name, User.email).where(
        (User.id == value.user_id) & (User.customerId == value.customer_id)
    )
)
_CHECKED_FOR = Prepared(
    lambda value: (
        _checks(value)
        .where((BudgetCheckLog.userId == value.user_id) & BudgetCheckLog.checkedBy.is_null(False))
        .limit(1)
    )
)
_RESERVED_FOR = Prepared(
    lambda value: (
        Reservation.select(Reservation.seq)
        .where(
            (Reservation.customerId == value.customer_id)
            & (Reservation.requestId == value.request_id)
            & (Reservation.requesterId == value.user_id)
        )
        .limit(1)
    )
)
_APPROVER = Prepared(
    lambda value: User.select(User.role, User.customerId, User.name, User.email).where(
        (User.id == value.user_id) & User.disabledAt.is_null()
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
    "status",
    "createdAt",
    "reserveReply",
)
_INSERT = Prepared(
    lambda value: Reservation.insert({column: getattr(value, column) for column in _RESERVED})
)


class Requester(NamedTuple):
    """Whose request it is: stored with the reservation, and asked for when someone wants to cancel it."""

    id: str
    name: str
    email: str


def reserve(actor: Actor, request: ReserveRequest, *, idempotency_key: str | None = None) -> Reply:
    """Set the amount aside, or refuse; the same request again gets the first reply again.

    Raises RequestError: FORBIDDEN, OVERSPEND_NOT_ALLOWED, INVALID_CUSTOMER, INVALID_REQUEST, BUDGET_NOT_FOUND, NOT_YOUR_REQUEST,
    IDEMPOTENCY_KEY_REUSED, REQUEST_CONFLICT, RESERVATION_CLOSED, CHECK_REQUIRED, BUDGET_DELETED, INSUFFICIENT_BUDGET, or what
    `transact` raises.
    """
    standings.require_customer(actor, request.customer_id)
    scope = require(actor, Action.RESERVE)
    if request.over_budget:
        require_overspend(actor)

    def work() -> Reply:
        asked = _HISTORY if request.user_id is None else _HISTORY_FOR_USER
        standing, history = standings.budget_for(
            actor,
            request.budget_id,
            request.customer_id,
            asked,
            request_id=request.request_id,
            user_id=request.user_id,
        )
        amount_minor = standings.amount_minor(
            request.amount, standing.currency, standing.exponent, request.currency
        )
        if scope is Scope.OWN:
            _refuse_strangers_request(actor, standing, request.request_id)
        requester = _requester(actor, scope, standing, request, history)
        approver = _approver(actor, standing, request, requester)
        key = KeyScope.of(actor, standing.customer_id, "reserve", idempotency_key, request)
        replay = key.stored() or key.keep(_replay(standing, history, amount_minor))
        if replay:
            return replay
        if history.status is not None:
            _refuse_late_duplicate(standing, history)
        if scope is Scope.OWN:
            _require_own_check(actor, standing, request.request_id, amount_minor)
        if standing.deleted_at:
            raise RequestError(
                Code.BUDGET_DELETED,
                "The budget was removed and takes no new reservations.",
                budgetId=standing.id,
            )
        return key.keep(_set_aside(actor, standing, request, requester, approver, amount_minor))

    return transact(work)


def _set_aside(
    actor: Actor,
    standing: Standing,
    request: ReserveRequest,
    requester: Requester,
    approver: str | None,
    amount_minor: int,
) -> Reply:
    moved = standings.move(standing, reserved_minor=amount_minor, within_budget=True)
    action, reason, approved_by = "RESERVE", request.reason or "Budget reserved for request", None
    if moved is None:
        if approver is None or request.over_budget is None:
            raise standings.refuse_insufficient(standing, standing.available_minor, amount_minor)
        moved = standings.move(standing, reserved_minor=amount_minor)
        action, reason, approved_by = "OVER_BUDGET", request.over_budget.reason, approver
        if moved is None:
            raise RuntimeError(f"budget {standing.id} has no utilisation row")
    reservation_id = new_id("res")
    reply = Reply.of(
        {
            "success": True,
            "reservationId": reservation_id,
            "budgetId": standing.id,
            "requestId": request.request_id,
            "amountReserved": standing.number(amount_minor),
            "newAvailable": standing.number(moved.available_minor),
        }
    )
    claim = Claim(reservation_id, request.request_id, *requester)
    _INSERT.write(
        id=reservation_id,
        customerId=standing.customer_id,
        budgetId=standing.id,
        requestId=request.request_id,
        requesterId=requester.id,
        requesterName=requester.name,
        requesterEmail=requester.email,
        currencyExponent=standing.exponent,
        amountMinor=amount_minor,
        heldMinor=amount_minor,
        status="open",
        createdAt=clock.to_text(clock.now()),
        reserveReply=reply.text,
    )
    standings.record_movement(
        actor,
        action,
        standing,
        moved,
        claim,
        held_before_minor=0,
        held_after_minor=amount_minor,
        reason=reason,
        approved_by=approved_by,
    )
    return reply


def _replay(standing: Standing, history: Any, amount_minor: int) -> Reply | None:
    """The first reply, where the request holds that amount already. Raises RequestError REQUEST_CONFLICT where it holds another."""
    if history.status != "open":
        return None
    if history.amountMinor != amount_minor:
        raise RequestError(
            Code.REQUEST_CONFLICT,
            "This request already has an open reservation of another amount on this budget. Release it first.",
            reservationId=history.id,
            amountReserved=standing.number(history.amountMinor),
        )
    return Reply(history.reserveReply, replayed=True)


def _refuse_strangers_request(actor: Actor, standing: Standing, request_id: str) -> None:
    # Two people may reserve the same request on two budgets at once.
    lock_name(f"request {standing.customer_id} {request_id}")
    if _STRANGERS.first(
        customer_id=standing.customer_id, request_id=request_id, user_id=actor.user_id
    ):
        raise RequestError(
            Code.NOT_YOUR_REQUEST, "This request belongs to someone else.", requestId=request_id
        )


def _refuse_late_duplicate(standing: Standing, history: Any) -> None:
    """A closed reservation is opened anew only by a check logged after it was closed: by sequence, since clocks jump."""
    newer_check = _NEWER_CHECK.first(
        customer_id=standing.customer_id,
        request_id=history.requestId,
        budget_id=standing.id,
        after=history.closedAfterCheck,
    )
    if not newer_check:
        raise RequestError(
            Code.RESERVATION_CLOSED,
            "This request's reservation was already committed or released. Check the request again before reserving anew.",
            reservationId=history.id,
        )


def _require_own_check(
    actor: Actor, standing: Standing, request_id: str, amount_minor: int
) -> None:
    own_check = _OWN_CHECK.first(
        customer_id=standing.customer_id,
        request_id=request_id,
        principal=actor.principal,
        budget_id=standing.id,
        amount_minor=amount_minor,
    )
    if not own_check:
        raise RequestError(
            Code.CHECK_REQUIRED,
            "Check this request first, on this budget and for at least this amount.",
            requestId=request_id,
        )


def _requester(
    actor: Actor, scope: Scope, standing: Standing, request: ReserveRequest, history: Any
) -> Requester:
    """Whose request it is. Never an ordinary caller's word: they are it. A reservation that is open keeps its own."""
    if history.status == "open":
        return Requester(history.requesterId, history.requesterName, history.requesterEmail)
    caller = Requester(actor.user_id or actor.principal, actor.name, actor.email or "")
    if scope is Scope.OWN:
        return caller
    user_id = request.user_id or history.userId
    if user_id is None or user_id == actor.user_id:
        return caller
    if history.userId is not None:
        return (
            Requester(user_id, history.userName, history.userEmail)
            if history.name is None
            else Requester(user_id, history.name, history.email)
        )
    user = _USER.first(user_id=user_id, customer_id=standing.customer_id)
    return Requester(user_id, user.name, user.email) if user else Requester(user_id, user_id, "")


def _approver(
    actor: Actor, standing: Standing, request: ReserveRequest, requester: Requester
) -> str | None:
    """Who approves going past the limit, as the audit log names them; None where nobody was named.

    An FP&A or admin user of the customer, not the requester: the caller, or named by a service whose key allows it. Whoever ever
    asked for that request for themselves is no other, whoever it is reserved for.
    """
    if request.over_budget is None:
        return None
    approver_id = request.over_budget.approved_by
    if not actor.is_service and approver_id != actor.user_id:
        raise RequestError(
            Code.OVERSPEND_NOT_ALLOWED, "approvedBy must be yourself.", approvedBy=approver_id
        )
    asked = {
        "customer_id": standing.customer_id,
        "request_id": request.request_id,
        "user_id": approver_id,
    }
    if approver_id == requester.id or _CHECKED_FOR.first(**asked) or _RESERVED_FOR.first(**asked):
        raise RequestError(
            Code.OVERSPEND_NOT_ALLOWED,
            "The requester cannot approve their own request over budget.",
            approvedBy=approver_id,
        )
    approver = _APPROVER.first(user_id=approver_id)
    if (
        approver is None
        or approver.role not in APPROVER_ROLES
        or approver.customerId not in (None, standing.customer_id)
    ):
        raise RequestError(
            Code.OVERSPEND_NOT_ALLOWED,
            "approvedBy must be an FP&A or admin user of this customer.",
            approvedBy=approver_id,
        )
    return standings.person(approver.name, approver.email)
