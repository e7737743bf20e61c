"""The form of an action: what it reads, and the page that asks for confirmation."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from flask import flash, redirect, request, url_for
from pydantic import BaseModel, ValidationError
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import MoneyError, to_minor
from budget_sync.domain.permissions import APPROVER_ROLES
from budget_sync.ledger.idempotency import has_stored
from budget_sync.queries.budgets import BudgetLine, budget_line
from budget_sync.queries.timeline import ReservationLine, Timeline, request_timeline
from budget_sync.web.console import formats
from budget_sync.web.console.actions.effects import LedgerAction
from budget_sync.web.console.base import argument, console, is_sent, page, typed, viewer
from budget_sync.web.console.errors import status_of

Model = TypeVar("Model", bound=BaseModel)


class OpenHold(NamedTuple):
    """A request's open reservation on a budget, with the request's timeline."""

    timeline: Timeline
    budget: BudgetLine
    line: ReservationLine


def open_hold() -> OpenHold:
    """The request and the budget of the query string, and the open reservation there.

    Raises RequestError NO_OPEN_RESERVATION, what `request_timeline` and `budget_line` raise, or
    AlreadyDoneError.
    """
    who = viewer()
    timeline = request_timeline(who.actor, who.customer.id, argument("id"))
    budget = budget_line(who.actor, who.customer.id, argument("budget"))
    line = timeline.open_reservation(budget.id)
    if line is None:
        redirect_if_done()
        raise RequestError(
            Code.NO_OPEN_RESERVATION, "This request has no open reservation on that budget."
        )
    return OpenHold(timeline, budget, line)


class AlreadyDoneError(Exception):
    """The form was sent before, by a double click, and its action is done."""


def redirect_if_done() -> None:
    """Go to the request if this form was sent before and its action is done.

    Raises AlreadyDoneError, which is answered with the redirect.
    """
    who = viewer()
    if is_sent() and has_stored(who.actor, who.customer.id, _idempotency_key()):
        raise AlreadyDoneError


@console.errorhandler(AlreadyDoneError)
def _redirect_to_request(_: AlreadyDoneError) -> AnyResponse:
    return redirect(url_for("console.timeline", id=argument("id")))


def _idempotency_key() -> str:
    return f"console-{typed('once', 64)}"


def typed_amount(default_minor: int, exponent: int) -> tuple[int, str | None]:
    """The typed amount and None, or the default and the problem with what was typed.

    If no amount was sent (the form is opened), the default and None.
    """
    if "amount" not in request.values:
        return default_minor, None
    try:
        minor = to_minor(formats.parse_amount(typed("amount")), exponent)
    except RequestError as error:
        return default_minor, error.sentence
    except MoneyError as error:
        return default_minor, f"The amount {error}."
    return (minor, None) if minor else (default_minor, "The amount must be greater than 0.")


def body(model: type[Model], **values: object) -> Model:
    """The request model that the ledger takes. Raises RequestError INVALID_REQUEST."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_request(
            {str(problem["loc"][-1]): str(problem["msg"]) for problem in error.errors()}
        ) from None


def may_approve() -> bool:
    """Whether the viewer may approve over budget, unless the request is their own."""
    return viewer().actor.role in APPROVER_ROLES


def approval(action: LedgerAction, reason: str) -> dict[str, str | None] | None:
    """The viewer's approval over budget, if the page said that the action needs one."""
    if not (action.approves and action.overdraws):
        return None
    return {"approved_by": viewer().actor.user_id, "reason": reason}


def confirm(
    action: LedgerAction,
    problem: str | None,
    run: Callable[[str, str], str],
    back: str | None = None,
    **values: Any,
) -> AnyResponse:
    """Show the action's page; once it is confirmed with what was shown, run it and redirect.

    `run` takes the reason and the form's idempotency key, and returns what was done. `back` is
    where the page's Back button leads; by default, to the request.
    """
    status, reason = 400 if problem else 200, typed("reason", 1000).strip()
    # The form's idempotency key: sending a form twice is one movement, a new page is another.
    once = secrets.token_hex(16)
    if is_sent() and problem is None:
        if action.needs_reason and not reason:
            status, problem = 400, "Enter a reason. It is kept in the audit log."
        elif typed("shown", 2000) != action.shown:
            status, problem = 409, "The amounts have changed. Check them below, then confirm again."
        else:
            try:
                return _redirect_after(action, run(reason, _idempotency_key()))
            except RequestError as error:
                status, problem = status_of(error), error.sentence
    return page(
        action.template,
        status,
        action=action,
        problem=problem,
        reason=reason,
        once=once,
        back=back or url_for("console.timeline", id=action.request_id),
        preview=f"{request.path}?{urlencode(_address())}",
        amount=typed("amount") if "amount" in request.values else _default_amount(action),
        **values,
    )


def _address() -> dict[str, str]:
    """The page's query parameters without those that are fields of the form."""
    return {
        name: argument(name) for name in ("id", "budget", "to", "action") if name in request.args
    }


def _default_amount(action: LedgerAction) -> str:
    return str(action.amount) if action.amount_minor else ""


def _redirect_after(action: LedgerAction, result: str) -> AnyResponse:
    """Go to the request, with a message: the result and what the budget has available now."""
    who = viewer()
    if not action.effects:
        flash(f"{result}.")
        return redirect(url_for("console.timeline", id=action.request_id))
    # Of several budgets, the last one is the one that has the money afterwards.
    budget = action.effects[-1].budget
    balance = budget_line(who.actor, who.customer.id, budget.id).balance
    available = formats.balance_money(balance, abs(balance.available_minor))
    is_overdrawn = balance.available_minor < 0
    rest = f"is overdrawn by {available}" if is_overdrawn else f"has {available} available"
    flash(f"{result}. {budget.name} {rest}.")
    return redirect(url_for("console.timeline", id=action.request_id))
