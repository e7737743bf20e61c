"""Extend: let a reservation expire later."""

from __future__ import annotations

from datetime import timedelta

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, require
from budget_sync.domain.request_models import AmendRequest
from budget_sync.web.console import formats
from budget_sync.web.console.actions.effects import Effect, LedgerAction
from budget_sync.web.console.actions.form import body, confirm, open_hold
from budget_sync.web.console.base import console, viewer


@console.route("/request/extend", methods=["GET", "POST"])
def extend() -> AnyResponse:
    """Let a reservation expire the customer's hold days from now."""
    who = viewer()
    require(who.actor, Action.RESERVE)
    _, budget, line = open_hold()
    days = who.customer.holdDays
    if days is None:
        raise RequestError(Code.REQUEST_CONFLICT, "Reservations do not expire here.")
    expires_at = clock.now() + timedelta(days=days)
    action = LedgerAction(
        title="Extend the reservation",
        button="Extend",
        explanation=f"The reservation expires {formats.count(days, 'day')} from now. "
        "Its amount stays.",
        request_id=line.request_id,
        effects=(Effect(budget),),
        amount_minor=line.held_minor,
        held_minor=line.held_minor,
        state=clock.to_text(line.expires_at) if line.expires_at else "",
        template="action_extend.html",
    )

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            AmendRequest,
            budget_id=budget.id,
            request_id=line.request_id,
            extend=True,
            reason=reason,
            customer_id=who.customer.id,
        )
        ledger.amend(who.actor, sent, idempotency_key=idempotency_key)
        return f"The reservation expires on {formats.day(expires_at, who.zone)}"

    return confirm(action, None, run, line=line, expires_at=expires_at)
