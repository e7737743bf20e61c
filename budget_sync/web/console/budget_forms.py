"""Budgets set by hand: add, change, remove and restore them.

Each form shows the figures before and after, and is confirmed with what it showed: a form that is
sent twice, or after another change, changes nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from flask import flash, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import manual_budgets
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import RequestError
from budget_sync.domain.money import MoneyError, to_minor, to_text
from budget_sync.domain.permissions import Action, require
from budget_sync.queries.budgets import BudgetLine, budget_line, departments
from budget_sync.queries.overview import periods
from budget_sync.queries.sync_runs import source_names
from budget_sync.web.console import formats
from budget_sync.web.console.base import argument, console, is_sent, page, typed, viewer
from budget_sync.web.console.errors import status_of

NO_REASON = "Enter a reason. It is kept in the audit log."
CHANGED = "The figures have changed. Check them below, then confirm again."

#: The fields of the form of a budget.
_FIELDS = ("department", "period", "amount", "limit", "owner")
_ONCE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table of figures: its label, and the texts before and after."""

    label: str
    before: str
    after: str


@console.route("/budget/add", methods=["GET", "POST"])
def add_budget() -> AnyResponse:
    """Add a budget by hand."""
    who = viewer()
    require(who.actor, Action.MANAGE_BUDGETS)
    values = _typed({})
    customer = who.customer
    empty = Balance(customer.currency, customer.currencyExponent, 0, 0, 0)
    rows, problem = _effect(None, empty, values)
    # The id of the form becomes that of the budget, so that a form sent twice adds one budget.
    once = typed("once", 16)
    once = once if is_sent() and _ONCE.fullmatch(once) else secrets.token_hex(8)

    def run(reason: str) -> AnyResponse:
        budget, _ = manual_budgets.set_budget(
            who.actor,
            customer.id,
            values["department"],
            values["period"],
            formats.parse_amount(values["amount"]),
            budget_id=f"bud_{once}",
            auto_approve_limit=_limit(values),
            owner_email=values["owner"] or None,
            reason=reason,
            must_be_new=True,
        )
        flash(f"Added {budget.department}, {budget.fiscalPeriod}.")
        return redirect(url_for("console.budget", id=budget.id))

    return _confirm(
        "budget_form.html",
        values,
        rows,
        problem,
        run,
        line=None,
        once=once,
        currency=customer.currency,
        back=url_for("console.budgets"),
        departments=departments(who.actor, customer.id),
        periods=periods(who.actor, customer.id),
    )


@console.route("/budget/change", methods=["GET", "POST"])
def change_budget() -> AnyResponse:
    """Change the amount, the limit and the owner of a budget without a source."""
    line = _line()
    if line.source_id is not None or line.deleted_at is not None:
        return _not_by_hand(line)
    who, stored = viewer(), _stored(line)
    values = _typed(stored) | {name: stored[name] for name in ("department", "period")}
    rows, problem = _effect(line, line.balance, values)

    def run(reason: str) -> AnyResponse:
        _, change = manual_budgets.set_budget(
            who.actor,
            who.customer.id,
            line.department,
            line.period,
            formats.parse_amount(values["amount"]),
            budget_id=line.id,
            auto_approve_limit=_limit(values),
            no_auto_approve_limit=not values["limit"],
            owner_email=values["owner"] or None,
            no_owner_email=not values["owner"],
            reason=reason,
        )
        what = "is changed" if change == "updated" else "has these values already"
        flash(f"{line.name} {what}.")
        return redirect(url_for("console.budget", id=line.id))

    return _confirm(
        "budget_form.html",
        values,
        rows,
        problem,
        run,
        # A form that is sent twice has nothing left to change.
        is_done=is_sent() and problem is None and _is_stored(line, values),
        line=line,
        currency=line.balance.currency,
        back=url_for("console.budget", id=line.id),
    )


@console.route("/budget/remove", methods=["GET", "POST"])
def remove_budget() -> AnyResponse:
    """Remove a budget without a source, as a sync run does for a row that is gone."""
    line = _line()
    if line.source_id is not None:
        return _not_by_hand(line)

    def run(reason: str) -> AnyResponse:
        manual_budgets.remove_budget(viewer().actor, line.id, reason=reason)
        flash(f"{line.name} is removed.")
        return redirect(url_for("console.budget", id=line.id))

    return _confirm(
        "budget_remove.html",
        {},
        _balance_rows(line, available_after="none for new requests"),
        None,
        run,
        line=line,
        back=url_for("console.budget", id=line.id),
    )


@console.route("/budget/restore", methods=["GET", "POST"])
def restore_budget() -> AnyResponse:
    """Restore a removed budget without a source, with what is reserved and committed on it."""
    line = _line()
    if line.source_id is not None:
        return _not_by_hand(line)

    def run(reason: str) -> AnyResponse:
        manual_budgets.restore_budget(viewer().actor, line.id, reason=reason)
        flash(f"{line.name} is restored.")
        return redirect(url_for("console.budget", id=line.id))

    return _confirm(
        "budget_remove.html",
        {},
        _balance_rows(line, available_before="none for new requests"),
        None,
        run,
        line=line,
        back=url_for("console.budget", id=line.id),
    )


def _line() -> BudgetLine:
    """The budget in the query string. Raises RequestError FORBIDDEN or BUDGET_NOT_FOUND."""
    who = viewer()
    require(who.actor, Action.MANAGE_BUDGETS)
    return budget_line(who.actor, who.customer.id, argument("id"))


def _not_by_hand(line: BudgetLine) -> AnyResponse:
    """The page that says why a budget cannot be changed here, and where it can."""
    who = viewer()
    sheet = source_names(who.actor, who.customer.id).get(line.source_id or "")
    return page("budget_of_sheet.html", 409 if is_sent() else 200, line=line, source=sheet)


def _confirm(
    template: str,
    values: dict[str, str],
    rows: list[Row],
    problem: str | None,
    run: Callable[[str], AnyResponse],
    *,
    is_done: bool = False,
    **more: Any,
) -> AnyResponse:
    """Show the form; once it is confirmed with the figures that it showed, run it."""
    reason, status = typed("reason", 1000).strip(), 400 if problem else 200
    shown = _shown(rows)
    if is_sent() and problem is None:
        if not reason:
            status, problem = 400, NO_REASON
        elif typed("shown", 4000) != shown and not is_done:
            status, problem = 409, CHANGED
        else:
            try:
                return run(reason)
            except RequestError as error:
                status, problem = status_of(error), formats.in_console(error.sentence)
    return page(
        template,
        status if is_sent() else 200,
        values=values,
        rows=rows,
        is_overdrawn=any(row.label == "Available" and formats.MINUS in row.after for row in rows),
        shown=shown,
        problem=problem,
        reason=reason,
        preview=f"{request.path}?{urlencode(_address())}",
        **more,
    )


def _address() -> dict[str, str]:
    return {"id": argument("id")} if argument("id") else {}


def _typed(stored: dict[str, str]) -> dict[str, str]:
    """The fields as they were typed, or as they are stored if the form is opened."""
    sent = request.form if is_sent() else request.args
    return {name: typed(name).strip() if name in sent else stored.get(name, "") for name in _FIELDS}


def _stored(line: BudgetLine) -> dict[str, str]:
    balance, limit_minor = line.balance, line.auto_approve_limit_minor
    return {
        "department": line.department,
        "period": line.period,
        "amount": to_text(balance.budgeted_minor, balance.exponent),
        "limit": "" if limit_minor is None else to_text(limit_minor, balance.exponent),
        "owner": line.owner_email or "",
    }


def _is_stored(line: BudgetLine, values: dict[str, str]) -> bool:
    """Whether the budget has the typed values already."""
    exponent, limit = line.balance.exponent, _limit(values)
    return (
        to_minor(formats.parse_amount(values["amount"]), exponent) == line.balance.budgeted_minor
        and (None if limit is None else to_minor(limit, exponent)) == line.auto_approve_limit_minor
        and (values["owner"] or None) == line.owner_email
    )


def _limit(values: dict[str, str]) -> Decimal | None:
    """The typed limit. Raises RequestError INVALID_REQUEST."""
    return formats.parse_amount(values["limit"], "autoApproveLimit") if values["limit"] else None


def _effect(
    line: BudgetLine | None, before: Balance, values: dict[str, str]
) -> tuple[list[Row], str | None]:
    """The figures before and after, and the problem with what was typed.

    An amount that is not typed yet is no problem before the form is sent.
    """
    try:
        budgeted_minor = before.budgeted_minor
        if values["amount"] or is_sent():
            budgeted_minor = to_minor(formats.parse_amount(values["amount"]), before.exponent)
        limit = _limit(values)
        limit_minor = None if limit is None else to_minor(limit, before.exponent)
    except RequestError as error:
        return [], error.sentence
    except MoneyError as error:
        return [], f"The amount {error}."
    after = before._replace(budgeted_minor=budgeted_minor)

    def money(minor: int) -> str:
        return formats.money(minor, before.currency, before.exponent)

    def limit_text(minor: int | None) -> str:
        return "the default" if minor is None else money(minor)

    is_new = line is None
    rows = [
        ("Budgeted", money(before.budgeted_minor), money(after.budgeted_minor)),
        ("Reserved", money(before.reserved_minor), money(after.reserved_minor)),
        ("Committed", money(before.committed_minor), money(after.committed_minor)),
        ("Available", money(before.available_minor), money(after.available_minor)),
        (
            "Auto-approve limit",
            limit_text(line.auto_approve_limit_minor if line else None),
            limit_text(limit_minor),
        ),
        ("Owner", (line.owner_email if line else None) or "none", values["owner"] or "none"),
    ]
    return [Row(label, "none" if is_new else old, new) for label, old, new in rows], None


def _balance_rows(
    line: BudgetLine, *, available_before: str | None = None, available_after: str | None = None
) -> list[Row]:
    """The figures of a budget that is removed or restored: only what is available changes."""
    balance = line.balance

    def money(minor: int) -> str:
        return formats.money(minor, balance.currency, balance.exponent)

    rows = [
        Row(name, money(minor), money(minor))
        for name, minor in (
            ("Budgeted", balance.budgeted_minor),
            ("Reserved", balance.reserved_minor),
            ("Committed", balance.committed_minor),
        )
    ]
    left = money(balance.available_minor)
    return [*rows, Row("Available", available_before or left, available_after or left)]


def _shown(rows: list[Row]) -> str:
    """What the page shows, for a hidden field: a confirmation is valid only for that."""
    return "|".join(f"{row.before}>{row.after}" for row in rows)
