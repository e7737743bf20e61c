"""One request: its timeline, and the actions on its reservations."""

from __future__ import annotations

from typing import NamedTuple

from flask import Response, url_for

from budget_sync.domain.errors import Code
from budget_sync.domain.permissions import APPROVER_ROLES, Action, Scope, scope_of
from budget_sync.queries.audit import AuditLine
from budget_sync.queries.requests import uncovered_check
from budget_sync.queries.timeline import CheckLine, ReservationLine, Timeline, request_timeline
from budget_sync.web.console import formats
from budget_sync.web.console.base import argument, console, page, viewer


class Card(NamedTuple):
    """A reservation on the page of its request, with what the viewer can do with it.

    `moved` names the budget that the reservation was moved to. `is_changed` is whether its amount
    was changed after the first reserve.
    """

    line: ReservationLine
    actions: list[tuple[str, str]]
    expiry: str | None
    moved: str | None
    is_changed: bool


@console.get("/request")
def timeline() -> Response:
    """The timeline of one request, or of money spent without a reservation."""
    who = viewer()
    found = request_timeline(who.actor, who.customer.id, argument("id"))
    others = _other_budgets(found.movements)
    uncovered = (
        uncovered_check(who.actor, who.customer.id, found.request_id)
        if who.may(Action.DECIDE)
        else None
    )
    return page(
        "request.html",
        timeline=found,
        last_check=found.checks[-1] if found.checks else None,
        cards=[_card(line, found, others) for line in found.reservations],
        spend_actions=[
            _reverse_link(line.id, line.budget_id)
            for line in found.spends
            if who.may(Action.COMMIT) and line.reversed_minor < line.amount_minor
        ],
        others=others,
        uncovered=uncovered,
        may_overspend=may_overspend(uncovered),
        is_unmatched=_is_unmatched(found),
    )


def may_overspend(check: CheckLine | None) -> bool:
    """Whether to offer an approval over budget for an uncovered check."""
    actor = viewer().actor
    return (
        check is not None
        and check.budget_id is not None
        and actor.role in APPROVER_ROLES
        and check.user_id != actor.user_id
    )


def _is_unmatched(found: Timeline) -> bool:
    """Whether the latest check found no budget, and the viewer may see such checks of all users."""
    is_own = scope_of(viewer().actor, Action.READ_REQUESTS) is Scope.OWN
    return not is_own and bool(found.checks) and found.checks[-1].code == Code.NO_BUDGET


def _other_budgets(movements: list[AuditLine]) -> dict[int, str]:
    """For each row of a move, by its id, the other budget: "to Legal, Q1 2025" or "from …"."""
    rows = [row for row in movements if row.transfer_id]
    return {
        row.id: f"{'to' if row.reserved_delta_minor < 0 else 'from'} {other.department}, "
        f"{other.period}"
        for row in rows
        for other in rows
        if other.transfer_id == row.transfer_id and other.budget_id != row.budget_id
    }


def _card(line: ReservationLine, found: Timeline, others: dict[int, str]) -> Card:
    is_open = line.status == "open"
    left = [row for row in found.movements if row.reservation_id == line.id and row.id in others]
    is_moved = not is_open and left and left[-1].reserved_delta_minor < 0
    # Without changes, all that was reserved is still held, committed or released.
    settled_minor = line.held_minor + line.committed_minor + line.released_minor
    return Card(
        line,
        _actions(line, found),
        _expiry(line) if is_open else None,
        f"Moved {others[left[-1].id]}" if is_moved else None,
        line.reversed_minor > 0 or settled_minor != line.amount_minor,
    )


def _expiry(line: ReservationLine) -> str | None:
    """When a reservation expires: "Expires in 5 days, on 6 Dec 2025"."""
    if line.expires_at is None:
        return None
    day = formats.day(line.expires_at, viewer().zone)
    return f"{formats.expires_in(line.expires_at)}, on {day}"


def _reverse_link(request_id: str, budget_id: str) -> tuple[str, str]:
    return "Reverse", url_for("console.reverse", id=request_id, budget=budget_id)


def _actions(line: ReservationLine, found: Timeline) -> list[tuple[str, str]]:
    """The viewer's actions on a reservation: their labels and URLs."""
    who = viewer()
    actions = _open_actions(line) if line.status == "open" else []
    on_budget = [each for each in found.reservations if each.budget_id == line.budget_id]
    # What the request committed on a budget is reversed together.
    has_committed = any(each.committed_minor for each in on_budget)
    if who.may(Action.COMMIT) and line is on_budget[-1] and has_committed:
        actions.append(_reverse_link(line.request_id, line.budget_id))
    return actions


def _open_actions(line: ReservationLine) -> list[tuple[str, str]]:
    who = viewer()
    actions: list[tuple[str, str, str | None]] = []
    is_own = line.requester_id == who.actor.user_id
    if who.may(Action.DECIDE) and line.waits_for_approval and not is_own:
        actions.append(("Approve", "console.approve_reservation", None))
        actions.append(("Reject", "console.release", "reject"))
    if who.may(Action.COMMIT):
        actions.append(("Commit", "console.commit", None))
    if who.may(Action.RESERVE):
        actions.append(("Change amount", "console.amend", None))
        actions.append(("Move to another budget", "console.move", None))
        if who.customer.holdDays is not None:
            actions.append(("Extend", "console.extend", None))
    if who.may(Action.RELEASE):
        if ("Reject", "console.release", "reject") not in actions:
            actions.append(("Reject", "console.release", "reject"))
        actions.append(("Release by hand", "console.release", "manual"))
    if who.may(Action.CANCEL):
        label = "Cancel for the requester" if who.may(Action.RELEASE) else "Cancel my request"
        actions.append((label, "console.release", "cancel"))
    return [
        (label, url_for(endpoint, id=line.request_id, budget=line.budget_id, action=action))
        for label, endpoint, action in actions
    ]
