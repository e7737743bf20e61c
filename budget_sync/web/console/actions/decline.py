"""Decline: turn down a request that its budget does not cover."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.balance import Balance
from budget_sync.domain.decision_models import DeclineRequest
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, require
from budget_sync.queries.budgets import budget_line
from budget_sync.queries.requests import uncovered_check
from budget_sync.queries.timeline import request_timeline
from budget_sync.web.console.actions.effects import Effect, LedgerAction
from budget_sync.web.console.actions.form import body, confirm, redirect_if_done
from budget_sync.web.console.base import argument, console, viewer


@console.route("/request/decline", methods=["GET", "POST"])
def decline() -> AnyResponse:
    """Decline the request of the query string. No money moves."""
    who = viewer()
    require(who.actor, Action.DECIDE)
    timeline = request_timeline(who.actor, who.customer.id, argument("id"))
    check = uncovered_check(who.actor, who.customer.id, timeline.request_id)
    if check is None:
        redirect_if_done()
        raise RequestError(
            Code.REQUEST_CONFLICT, "This request does not wait for a decision. Read it again."
        )
    budget = budget_line(who.actor, who.customer.id, check.budget_id) if check.budget_id else None
    action = LedgerAction(
        title="Decline the request",
        button="Decline",
        explanation="No money moves. A newer check of the request opens it again.",
        request_id=check.request_id,
        effects=(Effect(budget),) if budget else (),
        no_budget=Balance(check.currency, check.exponent, 0, 0, 0),
        amount_minor=check.amount_minor,
        state=check.check_id,
        template="action_decide.html",
        is_dangerous=True,
    )

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            DeclineRequest,
            request_id=check.request_id,
            check_id=check.check_id,
            reason=reason,
            customer_id=who.customer.id,
        )
        ledger.decline(who.actor, sent, idempotency_key=idempotency_key)
        return f"Declined {action.amount_text}"

    return confirm(action, None, run, check=check)
