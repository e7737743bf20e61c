"""Approve: reserve more than the budget has available."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, require, require_overspend
from budget_sync.domain.request_models import ReserveRequest
from budget_sync.queries.budgets import budget_line
from budget_sync.queries.requests import uncovered_check
from budget_sync.queries.timeline import request_timeline
from budget_sync.web.console.actions.effects import Effect, LedgerAction, Share
from budget_sync.web.console.actions.form import body, confirm, redirect_if_done
from budget_sync.web.console.base import argument, console, viewer


@console.route("/request/approve", methods=["GET", "POST"])
def approve() -> AnyResponse:
    """Reserve more than the budget has available, with the viewer's approval."""
    who = viewer()
    require(who.actor, Action.RESERVE)
    require_overspend(who.actor)
    timeline = request_timeline(who.actor, who.customer.id, argument("id"))
    check = uncovered_check(who.actor, who.customer.id, timeline.request_id)
    if check is None or check.budget_id is None:
        redirect_if_done()
        raise RequestError(
            Code.REQUEST_CONFLICT, "This request is not waiting for an approval over budget."
        )
    budget = budget_line(who.actor, who.customer.id, check.budget_id)
    share = Share("Held", 0, check.amount_minor)
    action = LedgerAction(
        title="Approve over budget",
        button="Approve over budget",
        explanation="The money is reserved although the budget is too small.",
        request_id=check.request_id,
        effects=(Effect(budget, share, reserved_minor=check.amount_minor),),
        amount_minor=check.amount_minor,
        template="action_approve.html",
        is_dangerous=True,
        approves=True,
    )

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            ReserveRequest,
            budget_id=budget.id,
            request_id=check.request_id,
            amount=action.amount,
            customer_id=who.customer.id,
            reason=reason,
            # The requester that the page showed, even if the request was checked again since.
            user_id=check.user_id,
            over_budget={"approved_by": who.actor.user_id, "reason": reason},
        )
        ledger.reserve(who.actor, sent, idempotency_key=idempotency_key)
        return f"Reserved {action.amount_text}"

    return confirm(action, None, run)
