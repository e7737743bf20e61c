"""Commit: spend reserved money."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.permissions import Action, require
from budget_sync.domain.request_models import CommitRequest
from budget_sync.web.console.actions.effects import Effect, LedgerAction, Share
from budget_sync.web.console.actions.form import (
    approval,
    body,
    confirm,
    may_approve,
    open_hold,
    typed_amount,
)
from budget_sync.web.console.base import console, typed, viewer


@console.route("/request/commit", methods=["GET", "POST"])
def commit() -> AnyResponse:
    """Move reserved money to committed, over budget if the viewer approves that."""
    who = viewer()
    require(who.actor, Action.COMMIT)
    _, budget, line = open_hold()
    amount_minor, problem = typed_amount(line.held_minor, budget.balance.exponent)
    final, reference = bool(typed("final")), typed("ref", 200)
    taken_minor = line.held_minor if final else min(amount_minor, line.held_minor)
    share = Share("Held", line.held_minor, -taken_minor)
    action = LedgerAction(
        title="Commit the reservation",
        button="Commit",
        explanation="The money is spent: it moves from reserved to committed.",
        request_id=line.request_id,
        effects=(Effect(budget, share, reserved_minor=-taken_minor, committed_minor=amount_minor),),
        amount_minor=amount_minor,
        held_minor=line.held_minor,
        template="action_commit.html",
        approves=may_approve(),
    )

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            CommitRequest,
            budget_id=budget.id,
            request_id=line.request_id,
            amount=action.amount,
            customer_id=who.customer.id,
            final=final,
            reason=reason,
            external_ref=reference.strip() or None,
            over_budget=approval(action, reason),
        )
        ledger.commit(who.actor, sent, idempotency_key=idempotency_key)
        return f"Committed {action.amount_text}"

    return confirm(action, problem, run, final=final, reference=reference)
