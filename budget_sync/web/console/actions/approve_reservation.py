"""Approve a reservation that waits for FP&A."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.decision_models import ApproveRequest
from budget_sync.domain.permissions import Action, require
from budget_sync.ledger.policy import require_not_requester, require_waiting
from budget_sync.web.console.actions.effects import Effect, LedgerAction, Share
from budget_sync.web.console.actions.form import (
    body,
    confirm,
    open_hold,
    redirect_if_done,
)
from budget_sync.web.console.base import console, viewer


@console.route("/request/approve-reservation", methods=["GET", "POST"])
def approve_reservation() -> AnyResponse:
    """Approve the open reservation of a request on a budget. Its money stays reserved."""
    who = viewer()
    require(who.actor, Action.DECIDE)
    _, budget, line = open_hold()
    is_own = line.requester_id == who.actor.user_id
    require_not_requester(line.request_id, is_requester=is_own)
    if not line.waits_for_approval:
        redirect_if_done()
        require_waiting(line.request_id, waits=False)
    action = LedgerAction(
        title="Approve the request",
        button="Approve",
        explanation="The money stays reserved, and the request can go on.",
        request_id=line.request_id,
        effects=(Effect(budget, Share("Held", line.held_minor, 0)),),
        amount_minor=line.held_minor,
        held_minor=line.held_minor,
        state=str(line.version),
        template="action_decide.html",
        needs_reason=False,
    )

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            ApproveRequest,
            budget_id=budget.id,
            request_id=line.request_id,
            if_version=line.version,
            reason=reason or None,
            customer_id=who.customer.id,
        )
        ledger.approve(who.actor, sent, idempotency_key=idempotency_key)
        return f"Approved {action.amount_text}"

    return confirm(action, None, run, line=line)
