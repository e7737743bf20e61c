"""check: could the budget carry it? Advice, logged with the answer given; it moves nothing."""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple

from peewee import fn

from budget_sync import clock
from budget_sync.database import transact
from budget_sync.ledger import standing as standings
from budget_sync.ledger.standing import Standing
from budget_sync.models import Budget, BudgetCheckLog, Customer, Reservation
from budget_sync.periods import fold, period_key
from budget_sync.permissions import Action, Actor, Scope, require
from budget_sync.refusals import Code, Refusal
from budget_sync.replies import Reply
from budget_sync.requests import CheckRequest


class Decision(NamedTuple):
    """What a check says."""

    code: Code
    reason: str
    available: bool = False
    can_auto_approve: bool = False


def check(actor: Actor, request: CheckRequest, *, started_ns: int | None = None) -> Reply:
    """Say whether the budget can carry the amount, and log that.

    `started_ns` is when the work on the request began, by `time.perf_counter_ns`. Raises Refusal INVALID_CUSTOMER,
    INVALID_REQUEST (currency or decimals), NOT_YOUR_REQUEST, or what `transact` raises.
    """
    began_ns = time.perf_counter_ns() if started_ns is None else started_ns
    if not actor.is_anonymous and not actor.serves(request.customer_id):
        raise standings.invalid_customer()
    scope = require(actor, Action.CHECK)

    def work() -> Reply:
        customer = Customer.get_or_none((Customer.id == request.customer_id) & Customer.disabledAt.is_null())
        if customer is None:
            raise standings.invalid_customer()
        if scope is Scope.OWN and request.user_id != actor.user_id:
            raise Refusal(Code.NOT_YOUR_REQUEST, "You can check for yourself only: userId must be your own.")
        standing = standings.find(
            Budget.customerId == customer.id,
            Budget.departmentKey == fold(request.department),
            Budget.periodKey == period_key(request.fiscal_period),
            Budget.deletedAt.is_null(),
        )
        currency, exponent = (standing.currency, standing.exponent) if standing else (customer.currency, customer.currencyExponent)
        amount_minor = standings.amount_minor(request.amount, currency, exponent, request.currency)
        own_minor = _already_reserved(actor, scope, standing, request.request_id) if standing else 0
        decision = decide(standing, own_minor, amount_minor, _limit_minor(customer, standing))
        return _log(actor, request, standing, decision, amount_minor, own_minor, began_ns, currency, exponent)

    return transact(work)


def decide(standing: Standing | None, own_minor: int, amount_minor: int, limit_minor: int | None) -> Decision:
    """The answer, from the figures alone. What the request holds already (`own_minor`) does not count against it."""
    if standing is None:
        return Decision(Code.NO_BUDGET, "No budget found")
    available_minor = standing.available_minor + own_minor
    if amount_minor > available_minor:
        return Decision(Code.INSUFFICIENT_BUDGET, standings.insufficient(standing, available_minor, amount_minor))
    if limit_minor is None or amount_minor > limit_minor:
        return Decision(Code.REQUIRES_APPROVAL, "Budget available. Requires FP&A approval", available=True)
    return Decision(Code.AUTO_APPROVED, "Budget available. Within the auto-approve limit", available=True, can_auto_approve=True)


def _limit_minor(customer: Customer, standing: Standing | None) -> int | None:
    """The auto-approve limit: the budget's, or else the customer's, which speaks of the customer's currency alone."""
    if standing is None:
        return None
    if standing.auto_approve_limit_minor is not None or standing.currency != customer.currency:
        return standing.auto_approve_limit_minor
    limit_minor: int | None = customer.autoApproveLimitMinor
    return limit_minor


def _already_reserved(actor: Actor, scope: Scope, standing: Standing, request_id: str) -> int:
    """What the request holds on the budget; someone else's hold is not told to a caller who may see only their own."""
    query = Reservation.select(fn.SUM(Reservation.heldMinor)).where(
        (Reservation.budgetId == standing.id) & (Reservation.requestId == request_id) & (Reservation.status == "open")
    )
    if scope is Scope.OWN:
        query = query.where(Reservation.requesterId == actor.user_id)
    return query.scalar() or 0


def _log(
    actor: Actor,
    request: CheckRequest,
    standing: Standing | None,
    decision: Decision,
    amount_minor: int,
    own_minor: int,
    began_ns: int,
    currency: str,
    exponent: int,
) -> Reply:
    check_id = f"chk_{secrets.token_hex(12)}"
    data: dict[str, object] = {
        "success": True,
        "available": decision.available,
        "canAutoApprove": decision.can_auto_approve,
        "code": decision.code,
        "reason": decision.reason,
        "checkId": check_id,
        "budget": standing.figures() if standing else None,
    }
    if standing and own_minor:
        data["alreadyReserved"] = standing.number(own_minor)
    reply = Reply.of(data)
    BudgetCheckLog.insert(
        checkId=check_id,
        customerId=request.customer_id,
        requestId=request.request_id,
        userId=request.user_id,
        userName=request.user_name,
        userEmail=request.user_email,
        checkedBy=None if actor.is_anonymous else actor.principal,
        department=request.department,
        fiscalPeriod=request.fiscal_period,
        currency=currency,
        currencyExponent=exponent,
        amountMinor=amount_minor,
        vendor=request.vendor,
        purpose=request.purpose,
        budgetId=standing.id if standing else None,
        available=decision.available,
        canAutoApprove=decision.can_auto_approve,
        code=decision.code,
        reason=decision.reason,
        response=reply.text,
        durationMs=max(0, time.perf_counter_ns() - began_ns) // 1_000_000,
        timestamp=clock.now(),
    ).execute()
    return reply
