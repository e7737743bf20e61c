"""Unmatched names: checks that found no budget, and the aliases of departments."""

from __future__ import annotations

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.accounts import aliases
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Action
from budget_sync.queries.unmatched import LISTED, LISTED_FOR, live_departments, unmatched
from budget_sync.web.console.base import argument, console, page, typed, viewer
from budget_sync.web.console.errors import status_of


@console.get("/unmatched")
def unmatched_names() -> Response:
    """The names that matched no budget, and all aliases."""
    return _page(name=argument("name", 200))


@console.post("/unmatched/add")
def add_alias() -> AnyResponse:
    """Let a name mean a department."""
    who = viewer()
    name, department = typed("name", 300).strip(), typed("department", 300).strip()
    try:
        aliases.add_alias(who.actor, who.customer.id, name, department)
    except RequestError as error:
        return _page(status_of(error), name=name, department=department, error=error.sentence)
    flash(f"{name} means {department} from the next check on.")
    return redirect(url_for("console.unmatched_names"))


@console.post("/unmatched/remove")
def remove_alias() -> AnyResponse:
    """Let a name no longer mean a department."""
    who = viewer()
    removed = aliases.remove_alias(who.actor, who.customer.id, typed("name"))
    flash(f"{removed.name} no longer means {removed.department}.")
    return redirect(url_for("console.unmatched_names"))


def _page(status: int = 200, **values: str) -> Response:
    who = viewer()
    found = unmatched(who.actor, who.customer)
    return page(
        "unmatched.html",
        status,
        groups=found.groups,
        total=found.total,
        listed=LISTED,
        days=LISTED_FOR.days,
        aliases=aliases.list_aliases(who.actor, who.customer.id),
        departments=live_departments(who.actor, who.customer.id),
        may_change=who.may(Action.MANAGE_BUDGETS),
        **values,
    )
