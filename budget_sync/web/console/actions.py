"""What people do about a request: release, commit, approve over budget. Each is confirmed on the figures before and after."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from flask import flash, redirect, request, url_for
from pydantic import BaseModel, ValidationError
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger, queries
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
from budget_sync.queries import BudgetLine, ReservationLine, Timeline
from budget_sync.web.console import formats
from budget_sync.web.console.base import argument, console, is_sent, page, status_of, typed, viewer

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class LedgerAction:
    """What somebody is about to do to a request: what it moves, in minor units, and the figures before and after."""

    kind: str
    title: str
    verb: str
    explanation: str
    story: Timeline
    budget: BudgetLine
    amount_minor: int
    held_minor: int
    reserved_minor: int = 0
    committed_minor: int = 0

    @property
    def after(self) -> Balance:
        """The budget's figures once it is done."""
        return self.budget.figures.moved(
            reserved_minor=self.reserved_minor, committed_minor=self.committed_minor
        )

    @property
    def held_after_minor(self) -> int:
        """What the request holds once it is done."""
        return self.held_minor + self.reserved_minor

    @property
    def shown(self) -> str:
        """What a confirmation counts for: these figures and no others. Who goes past the limit agrees to the overdraft shown, too."""
        figures = (self.amount_minor, self.held_minor, self.reserved_minor, self.committed_minor)
        return "/".join(
            map(str, (*figures, self.after.available_minor) if self.kind == "approve" else figures)
        )

    @property
    def amount(self) -> Decimal:
        """The amount in whole units."""
        return Decimal(to_number(self.amount_minor, self.budget.figures.exponent))

    @property
    def amount_text(self) -> str:
        """The amount as a sentence has it."""
        return formats.money_short(
            self.amount_minor, self.budget.figures.currency, self.budget.figures.exponent
        )


_RELEASES = {
    ReleaseAction.REJECT: (
        "Reject the request",
        "Reject and release",
        "The request was turned down. Its money goes back to the budget.",
    ),
    ReleaseAction.MANUAL: (
        "Release by hand",
        "Release",
        "The money goes back to the budget, for another reason than a rejection.",
    ),
    ReleaseAction.CANCEL: (
        "Cancel the request",
        "Cancel and release",
        "The request is withdrawn. Its money goes back to the budget.",
    ),
}


@console.route("/request/release", methods=["GET", "POST"])
def release() -> AnyResponse:
    """Give reserved money back."""
    who = viewer()
    try:
        action = ReleaseAction(argument("action"))
    except ValueError:
        raise invalid_request({"action": "must be one of cancel, reject, manual"}) from None
    require(who.actor, Action.CANCEL if action is ReleaseAction.CANCEL else Action.RELEASE)
    told, budget, line = _held()
    amount_minor, problem = _amount(line.held_minor, budget.figures.exponent)
    deed = LedgerAction(
        "release",
        *_RELEASES[action],
        told,
        budget,
        amount_minor,
        line.held_minor,
        reserved_minor=-min(amount_minor, line.held_minor),
    )

    def do(reason: str, once: str) -> str:
        body = _body(
            ReleaseRequest,
            budget_id=budget.id,
            request_id=told.request_id,
            amount=deed.amount,
            action=action,
            customer_id=who.customer.id,
            original_requester_id=line.requester_id if action is ReleaseAction.CANCEL else None,
            reason=reason,
        )
        ledger.release(who.actor, body, idempotency_key=once)
        return f"Released {deed.amount_text}"

    return _confirm(deed, problem, do)


@console.route("/request/commit", methods=["GET", "POST"])
def commit() -> AnyResponse:
    """Move reserved money to committed."""
    who = viewer()
    require(who.actor, Action.COMMIT)
    told, budget, line = _held()
    amount_minor, problem = _amount(line.held_minor, budget.figures.exponent)
    final, reference = bool(typed("final")), typed("ref", 200)
    taken_minor = line.held_minor if final else min(amount_minor, line.held_minor)
    words = (
        "Commit the reservation",
        "Commit",
        "The money is spent for good: it moves from reserved to committed.",
    )
    deed = LedgerAction(
        "commit",
        *words,
        told,
        budget,
        amount_minor,
        line.held_minor,
        reserved_minor=-taken_minor,
        committed_minor=amount_minor,
    )

    def do(reason: str, once: str) -> str:
        body = _body(
            CommitRequest,
            budget_id=budget.id,
            request_id=told.request_id,
            amount=deed.amount,
            customer_id=who.customer.id,
            final=final,
            reason=reason,
            external_ref=reference.strip() or None,
        )
        ledger.commit(who.actor, body, idempotency_key=once)
        return f"Committed {deed.amount_text}"

    return _confirm(deed, problem, do, final=final, reference=reference)


@console.route("/request/approve", methods=["GET", "POST"])
def approve() -> AnyResponse:
    """Set money aside for a request that its budget cannot carry."""
    who = viewer()
    require(who.actor, Action.RESERVE)
    require_overspend(who.actor)
    told = queries.request_timeline(who.actor, who.customer.id, argument("id"))
    check = told.uncovered
    if check is None or check.budget_id is None:
        raise RequestError(
            Code.REQUEST_CONFLICT,
            "This request does not wait for an approval over budget (any more).",
        )
    budget = queries.budget_line(who.actor, who.customer.id, check.budget_id)
    explanation = "The money is set aside although the budget cannot carry it. The audit log names you as the one who approved it."
    words = ("Approve over budget", "Approve over budget", explanation)
    deed = LedgerAction(
        "approve",
        *words,
        told,
        budget,
        check.amount_minor,
        held_minor=0,
        reserved_minor=check.amount_minor,
    )

    def do(reason: str, once: str) -> str:
        body = _body(
            ReserveRequest,
            budget_id=budget.id,
            request_id=told.request_id,
            amount=deed.amount,
            customer_id=who.customer.id,
            reason=reason,
            # Whom the page named, whoever checked the request since.
            user_id=check.user_id,
            over_budget={"approved_by": who.actor.user_id, "reason": reason},
        )
        ledger.reserve(who.actor, body, idempotency_key=once)
        return f"Reserved {deed.amount_text}"

    return _confirm(deed, None, do)


def _held() -> tuple[Timeline, BudgetLine, ReservationLine]:
    """The request and budget that the address names, and what the one holds on the other."""
    who = viewer()
    told = queries.request_timeline(who.actor, who.customer.id, argument("id"))
    budget = queries.budget_line(who.actor, who.customer.id, argument("budget"))
    line = told.open_on(budget.id)
    if line is None:
        raise RequestError(
            Code.NO_OPEN_RESERVATION, "This request holds nothing on that budget (any more)."
        )
    return told, budget, line


def _amount(held_minor: int, exponent: int) -> tuple[int, str | None]:
    """The amount typed, all that is held where nothing was typed (yet), and what is wrong with it."""
    if "amount" not in request.values:
        return held_minor, None
    try:
        minor = to_minor(formats.parse_amount(typed("amount")), exponent)
    except RequestError as refusal:
        return held_minor, refusal.sentence
    except MoneyError as error:
        return held_minor, f"The amount {error}."
    return (minor, None) if minor else (held_minor, "The amount must be greater than 0.")


def _body(model: type[Model], **values: object) -> Model:
    """The ledger's own model of what is asked. Raises RequestError INVALID_REQUEST."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_request(
            {str(problem["loc"][-1]): str(problem["msg"]) for problem in error.errors()}
        ) from None


def _confirm(
    deed: LedgerAction, problem: str | None, do: Callable[[str, str], str], **more: object
) -> AnyResponse:
    """Show the figures; once they are confirmed as they were shown, do it, and go back to the request."""
    status, reason = 400 if problem else 200, typed("reason", 1000).strip()
    # One confirmation, sent twice, is one movement; a page that is shown anew is another one.
    once = secrets.token_hex(16)
    if is_sent() and problem is None:
        if not reason:
            status, problem = 400, "Say why: the reason goes into the audit log."
        elif typed("shown") != deed.shown:
            status, problem = (
                409,
                "The figures below are for what you asked for now: look at them once more, then confirm.",
            )
        else:
            try:
                return _done(deed, do(reason, f"console-{typed('once', 64)}"))
            except RequestError as refusal:
                status, problem = status_of(refusal), refusal.sentence
    amount = typed("amount") if "amount" in request.values else str(deed.amount)
    return page(
        "deed.html",
        status,
        deed=deed,
        problem=problem,
        reason=reason,
        once=once,
        amount=amount,
        **more,
    )


def _done(deed: LedgerAction, done: str) -> AnyResponse:
    """Back to the request, with what is left now."""
    who = viewer()
    after = queries.budget_line(who.actor, who.customer.id, deed.budget.id).figures
    flash(
        f"{done}. {deed.budget.name} has {formats.money_short(after.available_minor, after.currency, after.exponent)} available."
    )
    return redirect(url_for("console.story", id=deed.story.request_id))
