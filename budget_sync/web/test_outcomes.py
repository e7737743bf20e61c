"""`X-Test-Outcome`: a service of a test customer chooses the reply, to test its error handling."""

from __future__ import annotations

from typing import Any

from flask import request

from budget_sync import database
from budget_sync.accounts.customers import get_customer
from budget_sync.database.errors import unavailable
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.ids import new_id
from budget_sync.domain.permissions import Actor
from budget_sync.domain.request_models import CheckRequest, ReleaseRequest, ReverseRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import policy
from budget_sync.runtime import greenlets

HEADER = "X-Test-Outcome"
INSUFFICIENT, UNAVAILABLE, UNKNOWN, SLOW = OUTCOMES = (
    *("insufficient", "unavailable", "unknown", "slow"),
)

#: How long a call with the outcome `slow` waits, in seconds.
SLOW_S = 5.0

_ENVIRON_KEY = "HTTP_X_TEST_OUTCOME"


def chosen_reply(actor: Actor, body: Any) -> Reply | None:
    """The reply that the header asks for; None if the call has to be done.

    Without the header, it does nothing. With `slow`, it waits first, without a thread on the event
    loop and without a connection. Raises RequestError INVALID_REQUEST if the caller is not a
    service of a test customer or the value is unknown, and the error that the header asks for.
    """
    outcome = request.environ.get(_ENVIRON_KEY)
    if outcome is None:
        return None
    _require_allowed(actor, outcome)
    if outcome == SLOW:
        database.end_request()
        greenlets.idle(SLOW_S)
        database.open_connection()
        return None
    if outcome == UNAVAILABLE:
        raise unavailable(f"{HEADER} asked for this reply.")
    if outcome == UNKNOWN:
        return _unknown(body)
    return _insufficient(actor, body)


def _require_allowed(actor: Actor, outcome: str) -> None:
    if not actor.is_service or not actor.is_test:
        raise invalid_request(
            {HEADER: "works only with an API key of a test customer; remove this header"}
        )
    if outcome not in OUTCOMES:
        raise invalid_request({HEADER: f"must be one of {', '.join(OUTCOMES)}"})


def _unknown(body: Any) -> Reply:
    """The reply of a check without a budget; raises BUDGET_NOT_FOUND for the other calls."""
    if isinstance(body, CheckRequest):
        return _check_reply(policy.decide_check(None, 0, 1, None), None)
    if body.budget_id is None:
        raise RequestError(
            Code.BUDGET_NOT_FOUND,
            "There is no budget for that department and period.",
            department=body.department,
            fiscalPeriod=body.fiscal_period,
        )
    raise RequestError(Code.BUDGET_NOT_FOUND, "Budget not found.", budgetId=body.budget_id)


def _insufficient(actor: Actor, body: Any) -> Reply:
    """The reply of a check of a used-up budget; raises the error of the other calls."""
    customer = get_customer(actor.customer_id or "")
    balance = Balance(customer.currency, customer.currencyExponent, 0, 0, 0)
    amount = getattr(body, "amount", None)
    # An amendment without an amount moves the hold.
    minor = 1 if amount is None else policy.require_minor(amount, *balance[:2], None)
    if isinstance(body, CheckRequest):
        budget = {"id": "test-outcome", **balance.to_json()}
        return _check_reply(policy.decide_check(balance, 0, minor, None), budget)
    if isinstance(body, ReleaseRequest):
        policy.require_held(balance, 0, minor)
    if isinstance(body, ReverseRequest):
        raise policy.exceeds_committed(body.budget_id, body.request_id, balance, 0, minor)
    if body.budget_id is None or not hasattr(body, "request_id"):
        raise invalid_request(
            {HEADER: f"cannot be {INSUFFICIENT} here: a spend may overdraw its budget"}
        )
    raise policy.insufficient_error(body.budget_id, balance, 0, minor)


def _check_reply(decision: policy.CheckDecision, budget: dict[str, object] | None) -> Reply:
    return Reply.of(
        {
            "success": True,
            "available": decision.available,
            "canAutoApprove": decision.can_auto_approve,
            "code": decision.code,
            "reason": decision.reason,
            "checkId": new_id("chk"),
            "budget": budget,
        }
    )
