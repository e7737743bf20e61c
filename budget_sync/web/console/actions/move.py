"""Move: let another budget pay for a request."""

from __future__ import annotations

from flask import url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.permissions import Action, require
from budget_sync.domain.request_models import AmendRequest
from budget_sync.ledger.policy import require_same_currency
from budget_sync.queries.budgets import BudgetLine, budget_line
from budget_sync.web.console.actions.budget_choice import choose_budget
from budget_sync.web.console.actions.effects import Effect, LedgerAction, Share
from budget_sync.web.console.actions.form import (
    OpenHold,
    approval,
    body,
    confirm,
    may_approve,
    open_hold,
    typed_amount,
)
from budget_sync.web.console.base import argument, console, viewer

_TITLE = "Move to another budget"


@console.route("/request/move", methods=["GET", "POST"])
def move() -> AnyResponse:
    """Choose another budget, then move what the request holds to it."""
    who = viewer()
    require(who.actor, Action.RESERVE)
    hold = open_hold()
    if argument("to") in ("", hold.budget.id):
        return _choose_target(hold)
    target = budget_line(who.actor, who.customer.id, argument("to"))
    require_same_currency(hold.budget.balance, target.balance)
    amount_minor, problem = typed_amount(hold.line.held_minor, hold.budget.balance.exponent)
    action = _action(hold, target, amount_minor)

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            AmendRequest,
            budget_id=hold.budget.id,
            request_id=hold.line.request_id,
            amount=action.amount,
            to_budget_id=target.id,
            reason=reason,
            over_budget=approval(action, reason),
            if_version=hold.line.version,
            customer_id=who.customer.id,
        )
        ledger.amend(who.actor, sent, idempotency_key=idempotency_key)
        return f"Moved {action.amount_text} from {hold.budget.name}"

    return confirm(action, problem, run, target=target)


def _choose_target(hold: OpenHold) -> AnyResponse:
    def link_of(line: BudgetLine) -> str:
        return url_for("console.move", id=argument("id"), budget=hold.budget.id, to=line.id)

    return choose_budget(
        title=_TITLE,
        text=f"The request holds money on {hold.budget.name}. "
        f"Choose the budget in {hold.budget.balance.currency} that pays for it from now on.",
        link_of=link_of,
        target_of=hold.budget,
        request_id=hold.line.request_id,
    )


def _action(hold: OpenHold, target: BudgetLine, amount_minor: int) -> LedgerAction:
    held_minor = hold.line.held_minor
    there = hold.timeline.open_reservation(target.id)
    return LedgerAction(
        title=_TITLE,
        button="Move",
        explanation="The request keeps its requester and its age.",
        request_id=hold.line.request_id,
        effects=(
            Effect(
                hold.budget,
                Share("Held", held_minor, -held_minor),
                reserved_minor=-held_minor,
                direction="From ",
            ),
            Effect(
                target,
                Share("Held", there.held_minor if there else 0, amount_minor),
                reserved_minor=amount_minor,
                direction="To ",
            ),
        ),
        amount_minor=amount_minor,
        held_minor=held_minor,
        template="action_move.html",
        approves=may_approve(),
    )
