"""Record spend: money that was spent without a reservation."""

from __future__ import annotations

import secrets
from datetime import date

from flask import request, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain import clock
from budget_sync.domain.permissions import Action, require
from budget_sync.domain.request_models import SpendRequest
from budget_sync.queries.budgets import BudgetLine, budget_line
from budget_sync.web.console.actions.budget_choice import choose_budget
from budget_sync.web.console.actions.effects import Effect, LedgerAction
from budget_sync.web.console.actions.form import body, confirm, typed_amount
from budget_sync.web.console.base import argument, console, is_sent, typed, viewer

_TITLE = "Record spend"


@console.route("/spend", methods=["GET", "POST"])
def spend() -> AnyResponse:
    """Choose a budget, then record money that was spent on it."""
    who = viewer()
    require(who.actor, Action.SPEND)
    if not argument("budget"):
        return choose_budget(
            title=_TITLE, text="Choose the budget that the money was spent on.", link_of=_link
        )
    budget = budget_line(who.actor, who.customer.id, argument("budget"))
    fields = _fields()
    amount_minor, problem = typed_amount(0, budget.balance.exponent)
    problem = problem or _problem(fields)
    action = LedgerAction(
        title=_TITLE,
        button="Record spend",
        explanation="For money that was spent without a reservation, such as a card payment. "
        "It is recorded even if it overdraws the budget.",
        request_id=fields["spend_id"],
        effects=(Effect(budget, committed_minor=amount_minor),),
        amount_minor=amount_minor,
        template="action_spend.html",
        is_past=True,
    )

    def run(reason: str, _: str) -> str:
        # The spend id is the idempotency key.
        sent = body(
            SpendRequest,
            **{name: text or None for name, text in fields.items()},
            budget_id=budget.id,
            amount=action.amount,
            currency=budget.balance.currency,
            reason=reason,
            customer_id=who.customer.id,
        )
        ledger.spend(who.actor, sent)
        return f"Recorded {action.amount_text} as spent"

    back = url_for("console.budget", id=budget.id)
    return confirm(action, problem, run, back, fields=fields, today=_today())


def _problem(fields: dict[str, str]) -> str | None:
    """What is wrong with the form's fields other than the amount and the reason."""
    if not fields["spend_id"]:
        return "Enter an id for the spend."
    try:
        date.fromisoformat(fields["date"])
    except ValueError:
        return "Enter the date on which the money was spent."
    return None


def _link(line: BudgetLine) -> str:
    return url_for("console.spend", budget=line.id)


def _fields() -> dict[str, str]:
    """The form's fields other than the amount and the reason, by their names in SpendRequest."""
    suggested = "" if is_sent() else f"spend-{secrets.token_hex(4)}"
    return {
        "spend_id": typed("spend_id", 200).strip() or suggested,
        "date": typed("date", 20).strip() if "date" in request.values else _today(),
        "vendor": typed("vendor", 200).strip(),
        "external_ref": typed("ref", 200).strip(),
    }


def _today() -> str:
    return clock.now().astimezone(viewer().zone).date().isoformat()
