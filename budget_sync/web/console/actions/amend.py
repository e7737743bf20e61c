"""Change amount: set the total that a request holds."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.permissions import Action, require
from budget_sync.domain.request_models import AmendRequest
from budget_sync.web.console import formats
from budget_sync.web.console.actions.effects import Effect, LedgerAction, Share
from budget_sync.web.console.actions.form import (
    approval,
    body,
    confirm,
    may_approve,
    open_hold,
    typed_amount,
)
from budget_sync.web.console.base import console, is_sent, viewer


@console.route("/request/amend", methods=["GET", "POST"])
def amend() -> AnyResponse:
    """Change the amount that a request holds on a budget."""
    who = viewer()
    require(who.actor, Action.RESERVE)
    _, budget, line = open_hold()
    amount_minor, problem = typed_amount(line.held_minor, budget.balance.exponent)
    if is_sent() and problem is None and amount_minor == line.held_minor:
        held = formats.balance_money(budget.balance, line.held_minor)
        problem = f"The request already holds {held}. Enter another amount."
    change_minor = amount_minor - line.held_minor
    share = Share("Held", line.held_minor, change_minor)
    action = LedgerAction(
        title="Change amount",
        button="Change amount",
        explanation="The request holds the new amount afterwards. "
        "The difference is taken from the budget, or returns to it.",
        request_id=line.request_id,
        effects=(Effect(budget, share, reserved_minor=change_minor),),
        amount_minor=amount_minor,
        held_minor=line.held_minor,
        template="action_amend.html",
        approves=may_approve(),
    )

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            AmendRequest,
            budget_id=budget.id,
            request_id=line.request_id,
            amount=action.amount,
            reason=reason,
            over_budget=approval(action, reason),
            if_version=line.version,
            customer_id=who.customer.id,
        )
        ledger.amend(who.actor, sent, idempotency_key=idempotency_key)
        return f"The request now holds {action.amount_text}"

    return confirm(action, problem, run)
