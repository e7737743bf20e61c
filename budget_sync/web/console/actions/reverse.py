"""Reverse: return committed money to the budget, or to the hold of its request."""

from __future__ import annotations

from typing import NamedTuple

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, require
from budget_sync.domain.request_models import ReverseRequest, ReverseTo
from budget_sync.queries.budgets import BudgetLine, budget_line
from budget_sync.queries.timeline import Timeline, request_timeline
from budget_sync.web.console.actions.effects import Effect, LedgerAction, Share
from budget_sync.web.console.actions.form import body, confirm, typed_amount
from budget_sync.web.console.base import argument, console, typed, viewer


class Committed(NamedTuple):
    """What a request, or a spend, has committed on a budget; `may_hold` if it can hold it again."""

    timeline: Timeline
    budget: BudgetLine
    minor: int
    may_hold: bool


@console.route("/request/reverse", methods=["GET", "POST"])
def reverse() -> AnyResponse:
    """Return money that a request committed, or that was spent without a reservation."""
    who = viewer()
    require(who.actor, Action.COMMIT)
    committed = _committed()
    amount_minor, problem = typed_amount(committed.minor, committed.budget.balance.exponent)
    holds_again = committed.may_hold and bool(typed("hold"))
    to = ReverseTo.RESERVED if holds_again else ReverseTo.AVAILABLE
    reference = typed("ref", 200)
    action = _action(committed, amount_minor, to)

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            ReverseRequest,
            budget_id=committed.budget.id,
            request_id=action.request_id,
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
        may_hold=committed.may_hold,
        reference=reference,
        committed_minor=committed.minor,
    )


def _action(committed: Committed, amount_minor: int, to: ReverseTo) -> LedgerAction:
    reversed_minor = min(amount_minor, committed.minor)
    effect = Effect(
        committed.budget,
        Share("Committed by this request", committed.minor, -reversed_minor),
        reserved_minor=reversed_minor if to is ReverseTo.RESERVED else 0,
        committed_minor=-reversed_minor,
    )
    return LedgerAction(
        title="Reverse",
        button="Reverse",
        explanation="Committed money comes back: a credit note, or an invoice that was cancelled.",
        request_id=committed.timeline.request_id,
        effects=(effect,),
        amount_minor=amount_minor,
        state=to,
        template="action_reverse.html",
        is_dangerous=True,
    )


def _committed() -> Committed:
    """What the request of the query string has committed on the budget of the query string.

    Raises RequestError AMOUNT_EXCEEDS_COMMITTED if that is nothing, or what `request_timeline` and
    `budget_line` raise.
    """
    who = viewer()
    timeline = request_timeline(who.actor, who.customer.id, argument("id"))
    budget = budget_line(who.actor, who.customer.id, argument("budget"))
    lines = [line for line in timeline.reservations if line.budget_id == budget.id]
    spends = [line for line in timeline.spends if line.budget_id == budget.id]
    committed_minor = sum(line.committed_minor for line in lines)
    committed_minor += sum(line.amount_minor - line.reversed_minor for line in spends)
    if not committed_minor:
        raise RequestError(
            Code.AMOUNT_EXCEEDS_COMMITTED, "This request has committed nothing on that budget."
        )
    return Committed(timeline, budget, committed_minor, bool(lines) and not spends)
