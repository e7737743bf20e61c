"""Requests: the lists, and the timeline of one request."""

from __future__ import annotations

from flask import Response, url_for

from budget_sync.domain.permissions import APPROVER_ROLES, Action, Scope, scope_of
from budget_sync.queries.budgets import budget_line
from budget_sync.queries.requests import (
    RequestQuery,
    reservations_page,
    uncovered_check,
    uncovered_page,
)
from budget_sync.queries.timeline import CheckLine, ReservationLine, Timeline, request_timeline
from budget_sync.web.console.base import argument, console, number, page, viewer

VIEWS = {"open": "Open", "closed": "Closed", "all": "All", "uncovered": "Not covered"}


@console.get("/requests")
def requests() -> Response:
    """A page of reservations, or of requests that wait because their budget is too small."""
    who = viewer()
    actor, customer = who.actor, who.customer.id
    shown = argument("view") if argument("view") in VIEWS else "open"
    query = RequestQuery(
        status=shown, text=argument("q"), budget_id=argument("budget"), after=number("after")
    )
    lines: list[ReservationLine] = []
    uncovered: list[CheckLine] = []
    if shown == "uncovered":
        uncovered, after = uncovered_page(actor, customer, query.after)
    else:
        lines, after = reservations_page(actor, customer, query)
    return page(
        "requests.html",
        views=VIEWS,
        shown=shown,
        query=query,
        lines=lines,
        uncovered=uncovered,
        after=after,
        budget=budget_line(actor, customer, query.budget_id) if query.budget_id else None,
        is_own=scope_of(actor, Action.READ_REQUESTS) is Scope.OWN,
    )


@console.get("/request")
def timeline() -> Response:
    """The timeline of one request."""
    who = viewer()
    found = request_timeline(who.actor, who.customer.id, argument("id"))
    return page(
        "request.html",
        timeline=found,
        last_check=found.checks[-1] if found.checks else None,
        actions=_actions(found),
        uncovered=_check_to_approve(found.request_id),
    )


def _check_to_approve(request_id: str) -> CheckLine | None:
    """The request's uncovered check, if the viewer may approve it over budget."""
    who = viewer()
    if who.actor.role not in APPROVER_ROLES:
        return None
    check = uncovered_check(who.actor, who.customer.id, request_id)
    return check if check and check.user_id != who.actor.user_id else None


def _actions(found: Timeline) -> dict[int, list[tuple[str, str]]]:
    """The viewer's actions on each open reservation, by its `seq`: their labels and URLs."""
    who = viewer()
    actions: list[tuple[str, str, str | None]] = []
    if who.may(Action.COMMIT):
        actions.append(("Commit", "console.commit", None))
    if who.may(Action.RELEASE):
        actions.append(("Reject", "console.release", "reject"))
        actions.append(("Release by hand", "console.release", "manual"))
    if who.may(Action.CANCEL):
        is_own = not who.may(Action.RELEASE)
        label = "Cancel my request" if is_own else "Cancel for the requester"
        actions.append((label, "console.release", "cancel"))
    return {
        line.seq: [
            (label, url_for(endpoint, id=line.request_id, budget=line.budget_id, action=action))
            for label, endpoint, action in actions
        ]
        for line in found.reservations
        if line.status == "open"
    }
