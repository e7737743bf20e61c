"""Requests: the list, and one request's whole story."""

from __future__ import annotations

from flask import Response, url_for

from budget_sync import queries
from budget_sync.domain.permissions import APPROVER_ROLES, Action, Scope, scope_of
from budget_sync.queries import CheckLine, RequestQuery, ReservationLine, Timeline
from budget_sync.web.console.base import argument, console, number, page, viewer

VIEWS = {"open": "Open", "closed": "Closed", "all": "All", "uncovered": "Not covered"}


@console.get("/requests")
def requests() -> Response:
    """A page of reservations, or of the requests that no budget could carry."""
    who = viewer()
    actor, customer = who.actor, who.customer.id
    shown = argument("view") if argument("view") in VIEWS else "open"
    query = RequestQuery(
        status=shown, text=argument("q"), budget_id=argument("budget"), after=number("after")
    )
    lines: list[ReservationLine] = []
    uncovered: list[CheckLine] = []
    if shown == "uncovered":
        uncovered, after = queries.uncovered_page(actor, customer, query.after)
    else:
        lines, after = queries.reservations_page(actor, customer, query)
    return page(
        "requests.html",
        views=VIEWS,
        shown=shown,
        query=query,
        lines=lines,
        uncovered=uncovered,
        after=after,
        budget=queries.budget_line(actor, customer, query.budget_id) if query.budget_id else None,
        is_own=scope_of(actor, Action.READ_REQUESTS) is Scope.OWN,
    )


@console.get("/request")
def story() -> Response:
    """All that is known of one request."""
    who = viewer()
    told = queries.request_timeline(who.actor, who.customer.id, argument("id"))
    return page(
        "request.html",
        story=told,
        last_check=told.checks[-1] if told.checks else None,
        actions=_offers(told),
        uncovered=_to_approve(told),
    )


def _to_approve(told: Timeline) -> CheckLine | None:
    """What waits for an approval over budget that this viewer may give."""
    who, check = viewer(), told.uncovered
    return (
        check
        if check and who.actor.role in APPROVER_ROLES and check.user_id != who.actor.user_id
        else None
    )


def _offers(told: Timeline) -> dict[int, list[tuple[str, str]]]:
    """What the viewer can do with each open reservation: its name and address."""
    who = viewer()
    own = scope_of(who.actor, Action.RELEASE) is None
    offers: list[tuple[str, str, str | None]] = []
    if who.may(Action.COMMIT):
        offers.append(("Commit", "console.commit", None))
    if who.may(Action.RELEASE):
        offers += [
            ("Reject", "console.release", "reject"),
            ("Release by hand", "console.release", "manual"),
        ]
    if who.may(Action.CANCEL):
        offers.append(
            (
                "Cancel my request" if own else "Cancel for the requester",
                "console.release",
                "cancel",
            )
        )
    return {
        line.seq: [
            (name, url_for(endpoint, id=line.request_id, budget=line.budget_id, action=action))
            for name, endpoint, action in offers
        ]
        for line in told.reservations
        if line.status == "open"
    }
