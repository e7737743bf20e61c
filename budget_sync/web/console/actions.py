"""Actions on a request: release, commit, approve over budget.

Each shows the amounts before and after, and asks for confirmation.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from flask import flash, redirect, request, url_for
from pydantic import BaseModel, ValidationError
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import MoneyError, to_minor, to_number
from budget_sync.domain.permissions import Action, require, require_overspend
from budget_sync.domain.request_models import (
    CommitRequest,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from budget_sync.queries.budgets import BudgetLine, budget_line
from budget_sync.queries.requests import uncovered_check
from budget_sync.queries.timeline import ReservationLine, request_timeline
from budget_sync.web.console import formats
from budget_sync.web.console.base import argument, console, is_sent, page, typed, viewer
from budget_sync.web.console.errors import status_of

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class LedgerAction:
    """An action that the viewer is about to take, with its effect on the budget and the request.

    `reserved_minor` and `committed_minor` are the changes to the budget's balance; `held_minor` is
    what the request holds before the action.
    """

    kind: str
    title: str
    button: str
    explanation: str
    request_id: str
    budget: BudgetLine
    amount_minor: int
    held_minor: int
    reserved_minor: int = 0
    committed_minor: int = 0

    @property
    def after(self) -> Balance:
        """The budget's balance after the action."""
        return self.budget.balance.moved(
            reserved_minor=self.reserved_minor, committed_minor=self.committed_minor
        )

    @property
    def held_after_minor(self) -> int:
        """The amount that the request holds after the action."""
        return self.held_minor + self.reserved_minor

    @property
    def shown(self) -> str:
        """The amounts on the page, for a hidden field: a confirmation is valid only for them.

        For an approval over budget, they include the overdraft.
        """
        amounts = [self.amount_minor, self.held_minor, self.reserved_minor, self.committed_minor]
        if self.kind == "approve":
            amounts.append(self.after.available_minor)
        return "/".join(map(str, amounts))

    @property
    def amount(self) -> Decimal:
        """The amount in whole units."""
        return Decimal(to_number(self.amount_minor, self.budget.balance.exponent))

    @property
    def amount_text(self) -> str:
        """The amount in a sentence: "$2,000"."""
        return formats.balance_money(self.budget.balance, self.amount_minor)


#: Title, button and explanation of each kind of release.
_RELEASES = {
    ReleaseAction.REJECT: (
        "Reject the request",
        "Reject and release",
        "The request was rejected. Its money returns to the budget.",
    ),
    ReleaseAction.MANUAL: (
        "Release by hand",
        "Release",
        "The money returns to the budget for a reason other than a rejection.",
    ),
    ReleaseAction.CANCEL: (
        "Cancel the request",
        "Cancel and release",
        "The request is withdrawn. Its money returns to the budget.",
    ),
}


@console.route("/request/release", methods=["GET", "POST"])
def release() -> AnyResponse:
    """Return reserved money to the budget."""
    who = viewer()
    try:
        release_action = ReleaseAction(argument("action"))
    except ValueError:
        raise invalid_request({"action": "must be one of cancel, reject, manual"}) from None
    is_cancel = release_action is ReleaseAction.CANCEL
    require(who.actor, Action.CANCEL if is_cancel else Action.RELEASE)
    budget, line = _open_reservation()
    amount_minor, problem = _amount(line.held_minor, budget.balance.exponent)
    action = LedgerAction(
        "release",
        *_RELEASES[release_action],
        line.request_id,
        budget,
        amount_minor,
        line.held_minor,
        reserved_minor=-min(amount_minor, line.held_minor),
    )

    def run(reason: str, idempotency_key: str) -> str:
        body = _body(
            ReleaseRequest,
            budget_id=budget.id,
            request_id=line.request_id,
            amount=action.amount,
            action=release_action,
            customer_id=who.customer.id,
            original_requester_id=line.requester_id if is_cancel else None,
            reason=reason,
        )
        ledger.release(who.actor, body, idempotency_key=idempotency_key)
        return f"Released {action.amount_text}"

    return _confirm(action, problem, run)


@console.route("/request/commit", methods=["GET", "POST"])
def commit() -> AnyResponse:
    """Move reserved money to committed."""
    who = viewer()
    require(who.actor, Action.COMMIT)
    budget, line = _open_reservation()
    amount_minor, problem = _amount(line.held_minor, budget.balance.exponent)
    final, reference = bool(typed("final")), typed("ref", 200)
    taken_minor = line.held_minor if final else min(amount_minor, line.held_minor)
    action = LedgerAction(
        "commit",
        "Commit the reservation",
        "Commit",
        "The money is spent: it moves from reserved to committed. This cannot be undone.",
        line.request_id,
        budget,
        amount_minor,
        line.held_minor,
        reserved_minor=-taken_minor,
        committed_minor=amount_minor,
    )

    def run(reason: str, idempotency_key: str) -> str:
        body = _body(
            CommitRequest,
            budget_id=budget.id,
            request_id=line.request_id,
            amount=action.amount,
            customer_id=who.customer.id,
            final=final,
            reason=reason,
            external_ref=reference.strip() or None,
        )
        ledger.commit(who.actor, body, idempotency_key=idempotency_key)
        return f"Committed {action.amount_text}"

    return _confirm(action, problem, run, final=final, reference=reference)


@console.route("/request/approve", methods=["GET", "POST"])
def approve() -> AnyResponse:
    """Reserve more than the budget has available, with the viewer's approval."""
    who = viewer()
    require(who.actor, Action.RESERVE)
    require_overspend(who.actor)
    timeline = request_timeline(who.actor, who.customer.id, argument("id"))
    check = uncovered_check(who.actor, who.customer.id, timeline.request_id)
    if check is None or check.budget_id is None:
        raise RequestError(
            Code.REQUEST_CONFLICT, "This request is not waiting for an approval over budget."
        )
    budget = budget_line(who.actor, who.customer.id, check.budget_id)
    action = LedgerAction(
        "approve",
        "Approve over budget",
        "Approve over budget",
        "The money is reserved although the budget is too small. "
        "The audit log names you as the approver.",
        check.request_id,
        budget,
        check.amount_minor,
        held_minor=0,
        reserved_minor=check.amount_minor,
    )

    def run(reason: str, idempotency_key: str) -> str:
        body = _body(
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
        ledger.reserve(who.actor, body, idempotency_key=idempotency_key)
        return f"Reserved {action.amount_text}"

    return _confirm(action, None, run)


def _open_reservation() -> tuple[BudgetLine, ReservationLine]:
    """The budget from the query string, and the request's open reservation on it.

    Raises RequestError NO_OPEN_RESERVATION, or what `request_timeline` and `budget_line` raise.
    """
    who = viewer()
    timeline = request_timeline(who.actor, who.customer.id, argument("id"))
    budget = budget_line(who.actor, who.customer.id, argument("budget"))
    line = timeline.open_reservation(budget.id)
    if line is None:
        raise RequestError(
            Code.NO_OPEN_RESERVATION, "This request has no open reservation on that budget."
        )
    return budget, line


def _amount(held_minor: int, exponent: int) -> tuple[int, str | None]:
    """The typed amount and None, or the held amount and the problem with what was typed.

    If no amount was sent (the form is opened), the held amount and None.
    """
    if "amount" not in request.values:
        return held_minor, None
    try:
        minor = to_minor(formats.parse_amount(typed("amount")), exponent)
    except RequestError as error:
        return held_minor, error.sentence
    except MoneyError as error:
        return held_minor, f"The amount {error}."
    return (minor, None) if minor else (held_minor, "The amount must be greater than 0.")


def _body(model: type[Model], **values: object) -> Model:
    """The request model that the ledger takes. Raises RequestError INVALID_REQUEST."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_request(
            {str(problem["loc"][-1]): str(problem["msg"]) for problem in error.errors()}
        ) from None


def _confirm(
    action: LedgerAction, problem: str | None, run: Callable[[str, str], str], **values: object
) -> AnyResponse:
    """Show the action's page; once it is confirmed with the amounts shown, run it and redirect."""
    status, reason = 400 if problem else 200, typed("reason", 1000).strip()
    # The form's idempotency key: sending a form twice is one movement, a new page is another.
    once = secrets.token_hex(16)
    if is_sent() and problem is None:
        if not reason:
            status, problem = 400, "Enter a reason. It is kept in the audit log."
        elif typed("shown") != action.shown:
            status, problem = 409, "The amounts have changed. Check them below, then confirm again."
        else:
            try:
                return _redirect_after(action, run(reason, f"console-{typed('once', 64)}"))
            except RequestError as error:
                status, problem = status_of(error), error.sentence
    amount = typed("amount") if "amount" in request.values else str(action.amount)
    return page(
        "action.html",
        status,
        action=action,
        problem=problem,
        reason=reason,
        once=once,
        amount=amount,
        **values,
    )


def _redirect_after(action: LedgerAction, result: str) -> AnyResponse:
    """Return to the request, with a message: the result and what the budget has available now."""
    who = viewer()
    balance = budget_line(who.actor, who.customer.id, action.budget.id).balance
    available = formats.balance_money(balance, balance.available_minor)
    flash(f"{result}. {action.budget.name} has {available} available.")
    return redirect(url_for("console.timeline", id=action.request_id))
