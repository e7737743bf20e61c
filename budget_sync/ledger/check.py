"""check: could the budget carry it? Advice, logged with the answer given; it moves nothing."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from peewee import JOIN

from budget_sync.database import Prepared, transact
from budget_sync.database.models import (
    Budget,
    BudgetCheckLog,
    BudgetUtilization,
    Customer,
    Reservation,
)
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.ids import new_id
from budget_sync.domain.money import MoneyError, currency_exponent, rescaled
from budget_sync.domain.periods import fold, period_key
from budget_sync.domain.permissions import Action, Actor, Scope, require
from budget_sync.domain.request_models import CheckRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements as standings
from budget_sync.ledger.movements import Standing


def _facts(value: Any, *, own: bool) -> Any:
    """The customer, and where there are any, its live budget and what the request holds there: in one query, as a check is
    the most frequent call. With `own`, someone else's hold is not told.
    """
    budget = (
        (Budget.customerId == Customer.id)
        & (Budget.departmentKey == value.department)
        & (Budget.periodKey == value.period)
    )
    hold = (
        (Reservation.budgetId == Budget.id)
        & (Reservation.requestId == value.request_id)
        & (Reservation.status == "open")
    )
    if own:
        hold &= Reservation.requesterId == value.user_id
    return (
        Customer.select(
            Customer.currency,
            Customer.currencyExponent,
            Customer.autoApproveLimitMinor,
            Reservation.heldMinor,
            *standings.COLUMNS,
        )
        .join(Budget, JOIN.LEFT_OUTER, on=budget & Budget.deletedAt.is_null())
        .join(BudgetUtilization, JOIN.LEFT_OUTER, on=(BudgetUtilization.budgetId == Budget.id))
        .join(Reservation, JOIN.LEFT_OUTER, on=hold)
        .where((Customer.id == value.customer_id) & Customer.disabledAt.is_null())
    )


_FACTS = Prepared(lambda value: _facts(value, own=False))
_FACTS_FOR_OWN = Prepared(lambda value: _facts(value, own=True))

_LOGGED = (
    "checkId",
    "customerId",
    "requestId",
    "userId",
    "userName",
    "userEmail",
    "checkedBy",
    "department",
    "fiscalPeriod",
    "currency",
    "currencyExponent",
    "amountMinor",
    "vendor",
    "purpose",
    "budgetId",
    "available",
    "canAutoApprove",
    "code",
    "reason",
    "response",
    "durationMs",
    "timestamp",
)
_INSERT = Prepared(
    lambda value: BudgetCheckLog.insert({column: getattr(value, column) for column in _LOGGED})
)


class _Customer(NamedTuple):
    """What of a customer bears on a check."""

    currency: str
    exponent: int
    auto_approve_limit_minor: int | None


class Decision(NamedTuple):
    """What a check says."""

    code: Code
    reason: str
    available: bool = False
    can_auto_approve: bool = False


def check(actor: Actor, request: CheckRequest, *, started_ns: int | None = None) -> Reply:
    """Say whether the budget can carry the amount, and log that.

    `started_ns` is when the work on the request began, by `time.perf_counter_ns`. Raises RequestError INVALID_CUSTOMER,
    INVALID_REQUEST (currency or decimals), NOT_YOUR_REQUEST, or what `transact` raises.
    """
    began_ns = time.perf_counter_ns() if started_ns is None else started_ns
    if not actor.is_anonymous and not actor.serves(request.customer_id):
        raise standings.invalid_customer()
    scope = require(actor, Action.CHECK)

    def work() -> Reply:
        facts = _FACTS if scope is Scope.ANY else _FACTS_FOR_OWN
        row = facts.first(
            customer_id=request.customer_id,
            department=fold(request.department),
            period=period_key(request.fiscal_period),
            request_id=request.request_id,
            user_id=actor.user_id,
        )
        if row is None:
            raise standings.invalid_customer()
        customer, held_minor, standing = (
            _Customer(*row[:3]),
            row[3],
            Standing(*row[4:]) if row[4] is not None else None,
        )
        currency, exponent = (
            (standing.currency, standing.exponent)
            if standing
            else _currency_without_budget(customer, request)
        )
        amount_minor = standings.amount_minor(request.amount, currency, exponent, request.currency)
        if scope is Scope.OWN and request.user_id != actor.user_id:
            raise RequestError(
                Code.NOT_YOUR_REQUEST, "You can check for yourself only: userId must be your own."
            )
        own_minor = held_minor or 0
        decision = decide(standing, own_minor, amount_minor, _limit_minor(customer, standing))
        return _log(
            actor,
            request,
            standing,
            decision,
            amount_minor,
            own_minor,
            began_ns,
            currency,
            exponent,
        )

    return transact(work)


def decide(
    standing: Standing | None, own_minor: int, amount_minor: int, limit_minor: int | None
) -> Decision:
    """The answer, from the figures alone. What the request holds already (`own_minor`) does not count against it."""
    if standing is None:
        return Decision(Code.NO_BUDGET, "No budget found")
    available_minor = standing.available_minor + own_minor
    if amount_minor > available_minor:
        return Decision(
            Code.INSUFFICIENT_BUDGET,
            standings.insufficient(standing, available_minor, amount_minor),
        )
    if limit_minor is None or amount_minor > limit_minor:
        return Decision(
            Code.REQUIRES_APPROVAL, "Budget available. Requires FP&A approval", available=True
        )
    return Decision(
        Code.AUTO_APPROVED,
        "Budget available. Within the auto-approve limit",
        available=True,
        can_auto_approve=True,
    )


def _currency_without_budget(customer: _Customer, request: CheckRequest) -> tuple[str, int]:
    """What an amount is in where no budget says so: the currency it was sent with, or else the customer's."""
    if request.currency is None:
        return customer.currency, customer.exponent
    try:
        return request.currency, currency_exponent(request.currency)
    except MoneyError as error:
        raise invalid_request({"currency": str(error)}) from None


def _limit_minor(customer: _Customer, standing: Standing | None) -> int | None:
    """The auto-approve limit in the budget's minor units: its own, or else the customer's, which speaks of the customer's currency alone."""
    if standing is None:
        return None
    if (
        standing.auto_approve_limit_minor is not None
        or standing.currency != customer.currency
        or customer.auto_approve_limit_minor is None
    ):
        return standing.auto_approve_limit_minor
    # Rounded down, which no amount can tell: each is a whole number of the budget's minor units.
    return rescaled(customer.auto_approve_limit_minor, customer.exponent, standing.exponent)


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
    check_id = new_id("chk")
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
    _INSERT.write(
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
        code=str(decision.code),
        reason=decision.reason,
        response=reply.text,
        durationMs=max(0, time.perf_counter_ns() - began_ns) // 1_000_000,
        timestamp=clock.to_text(clock.now()),
    )
    return reply
