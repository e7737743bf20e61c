"""check: does the budget cover the amount? Logs the answer and moves no money."""

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
from budget_sync.domain.ids import new_id
from budget_sync.domain.names import fold
from budget_sync.domain.periods import FiscalYear, is_same_for_all, requested_period_key
from budget_sync.domain.permissions import Action, Actor, Scope, require
from budget_sync.domain.request_models import CheckRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, policy
from budget_sync.ledger.aliases import department_of_alias
from budget_sync.ledger.movements import LedgerBudget
from budget_sync.ledger.policy import CheckDecision, CustomerDefaults
from budget_sync.ledger.suggestions import suggested_departments


def _facts(value: Any, *, own: bool) -> Any:
    """The query for the customer, its live budget, and the amount that the request holds there.

    One query, because a check is the most frequent call. There is no row if the customer is unknown
    or disabled; the other columns are null if there is no budget or no open reservation. With
    `own`, another user's reservation is left out.
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
            *movements.BUDGET_COLUMNS,
        )
        .join(Budget, JOIN.LEFT_OUTER, on=budget & Budget.deletedAt.is_null())
        .join(BudgetUtilization, JOIN.LEFT_OUTER, on=(BudgetUtilization.budgetId == Budget.id))
        .join(Reservation, JOIN.LEFT_OUTER, on=hold)
        .where((Customer.id == value.customer_id) & Customer.disabledAt.is_null())
    )


_FACTS = Prepared(lambda value: _facts(value, own=False))
_FACTS_FOR_OWN = Prepared(lambda value: _facts(value, own=True))

# The fiscal year of an enabled customer, for the few periods with a key that depends on it.
_FISCAL_YEAR = Prepared(
    lambda value: Customer.select(Customer.fiscalYearStartMonth, Customer.fiscalYearNamedBy).where(
        (Customer.id == value.customer_id) & Customer.disabledAt.is_null()
    )
)

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


def check(actor: Actor, request: CheckRequest, *, started_ns: int | None = None) -> Reply:
    """Decide whether the budget covers the amount, and log the answer.

    `started_ns` is the start of the HTTP request by `time.perf_counter_ns`, for the logged
    duration. Raises RequestError INVALID_CUSTOMER, INVALID_REQUEST (period, currency or decimals),
    NOT_YOUR_REQUEST, or an error of `transact`.
    """
    began_ns = time.perf_counter_ns() if started_ns is None else started_ns
    if not actor.is_anonymous and not actor.serves(request.customer_id):
        raise movements.invalid_customer()
    scope = require(actor, Action.CHECK)

    def work() -> Reply:
        facts = _FACTS if scope is Scope.ANY else _FACTS_FOR_OWN
        department = fold(request.department)
        period = period_key(request.customer_id, request.fiscal_period)
        wanted = {
            "customer_id": request.customer_id,
            "department": department,
            "period": period,
            "request_id": request.request_id,
            "user_id": actor.user_id,
        }
        row = facts.first(**wanted)
        if row is None:
            raise movements.invalid_customer()
        if row[4] is None and (meant := department_of_alias(request.customer_id, department)):
            row = facts.first(**wanted | {"department": meant})
        customer, held_minor = CustomerDefaults(*row[:3]), row[3] or 0
        budget = LedgerBudget.of(row[4:]) if row[4] is not None else None
        suggestions: list[str] = []
        if budget is None:
            balance, limit_minor = None, None
            suggestions = suggested_departments(actor, request.customer_id, department, period)
            currency, exponent = policy.currency_without_budget(customer, request.currency)
        else:
            balance = budget.balance
            currency, exponent = balance.currency, balance.exponent
            limit_minor = policy.auto_approve_limit(
                balance, budget.auto_approve_limit_minor, customer
            )
        amount_minor = policy.require_minor(request.amount, currency, exponent, request.currency)
        policy.require_own_user_id(actor, scope, request.user_id)
        decision = policy.decide_check(balance, held_minor, amount_minor, limit_minor)
        answer = _Answer(
            budget, decision, held_minor, amount_minor, currency, exponent, suggestions
        )
        return _log(actor, request, answer, began_ns)

    return transact(work)


def period_key(customer_id: str, text: str) -> str:
    """The key of the period in a request, in the customer's fiscal year.

    Raises RequestError INVALID_REQUEST or INVALID_CUSTOMER.
    """
    if is_same_for_all(text):
        return requested_period_key(text, FiscalYear())
    row = _FISCAL_YEAR.first(customer_id=customer_id)
    if row is None:
        raise movements.invalid_customer()
    return requested_period_key(text, FiscalYear(*row))


class _Answer(NamedTuple):
    """A decision with the facts that are replied and logged.

    `suggestions` are names of departments, if there is no budget.
    """

    budget: LedgerBudget | None
    decision: CheckDecision
    held_minor: int
    amount_minor: int
    currency: str
    exponent: int
    suggestions: list[str]


def _log(actor: Actor, request: CheckRequest, answer: _Answer, began_ns: int) -> Reply:
    """Add a check to the check log; returns its reply."""
    budget, decision = answer.budget, answer.decision
    check_id = new_id("chk")
    reply = _reply(check_id, answer)
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
        currency=answer.currency,
        currencyExponent=answer.exponent,
        amountMinor=answer.amount_minor,
        vendor=request.vendor,
        purpose=request.purpose,
        budgetId=budget.id if budget else None,
        available=decision.available,
        canAutoApprove=decision.can_auto_approve,
        code=str(decision.code),
        reason=decision.reason,
        response=reply.text,
        durationMs=max(0, time.perf_counter_ns() - began_ns) // 1_000_000,
        timestamp=clock.to_text(clock.now()),
    )
    return reply


def _reply(check_id: str, answer: _Answer) -> Reply:
    budget, decision = answer.budget, answer.decision
    data: dict[str, object] = {
        "success": True,
        "available": decision.available,
        "canAutoApprove": decision.can_auto_approve,
        "code": decision.code,
        "reason": decision.reason,
        "checkId": check_id,
        "budget": budget.to_json() if budget else None,
    }
    if budget is None:
        data["suggestions"] = answer.suggestions
    elif answer.held_minor:
        data["alreadyReserved"] = budget.balance.number(answer.held_minor)
    return Reply.of(data)
