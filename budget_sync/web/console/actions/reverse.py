"""Reverse: return committed money to the budget, or to the hold of its request."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, require
from budget_sync.domain.request_models import ReverseRequest, ReverseTo
from budget_sync.queries.budgets import budget_line
from budget_sync.queries.timeline import Timeline, request_timeline
from budget_sync.web.console.actions.effects import Effect, LedgerAction, Share
from budget_sync.web.console.actions.form import body, confirm, typed_amount
from budget_sync.web.console.base import argument, console, typed, viewer


@console.route("/request/reverse", methods=["GET", "POST"])
def reverse() -> AnyResponse:
    """Return money that a request committed, or that was spent without a reservation."""
    who = viewer()
    require(who.actor, Action.COMMIT)
    timeline = request_timeline(who.actor, who.customer.id, argument("id"))
    budget = budget_line(who.actor, who.customer.id, argument("budget"))
    committed_minor, may_hold = _committed(timeline, budget.id)
    if not committed_minor:
        raise RequestError(
            Code.AMOUNT_EXCEEDS_COMMITTED, "This request has committed nothing on that budget."
        )
    amount_minor, problem = typed_amount(committed_minor, budget.balance.exponent)
    reversed_minor = min(amount_minor, committed_minor)
    holds_again = may_hold and bool(typed("hold"))
    to = ReverseTo.RESERVED if holds_again else ReverseTo.AVAILABLE
    reference = typed("ref", 200)
    action = LedgerAction(
        title="Reverse",
        button="Reverse",
        explanation="Committed money comes back: a credit note, or an invoice that was cancelled.",
        request_id=timeline.request_id,
        effects=(
            Effect(
                budget,
                Share("Committed by this request", committed_minor, -reversed_minor),
                reserved_minor=reversed_minor if holds_again else 0,
                committed_minor=-reversed_minor,
            ),
        ),
        amount_minor=amount_minor,
        state=to,
        template="action_reverse.html",
        is_dangerous=True,
    )

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            ReverseRequest,
            budget_id=budget.id,
            request_id=timeline.request_id,
            amount=action.amount,
            to=to,
            reason=reason,
            external_ref=reference.strip() or None,
            customer_id=who.customer.id,
        )
        ledger.reverse(who.actor, sent, idempotency_key=idempotency_key)
        return f"Reversed {action.amount_text}"

    return confirm(
        action,
        problem,
        run,
        holds_again=holds_again,
        may_hold=may_hold,
        reference=reference,
        committed_minor=committed_minor,
    )


def _committed(timeline: Timeline, budget_id: str) -> tuple[int, bool]:
    """What the request, or the spend, has committed on a budget; whether it can be held again."""
    lines = [line for line in timeline.reservations if line.budget_id == budget_id]
    spends = [line for line in timeline.spends if line.budget_id == budget_id]
    committed_minor = sum(line.committed_minor for line in lines)
    spent_minor = sum(line.amount_minor - line.reversed_minor for line in spends)
    return committed_minor + spent_minor, bool(lines) and not spends
