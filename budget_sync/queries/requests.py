"""Lists of requests: reservations, denied checks, spend; their pages and totals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from budget_sync.database.models import Budget, BudgetCheckLog, Reservation
from budget_sync.domain import clock
from budget_sync.domain.permissions import Action, Actor, Scope, require_for
from budget_sync.ledger import undecided
from budget_sync.queries import paging, purchases, timeline
from budget_sync.queries.balances import in_whole_units
from budget_sync.queries.request_query import (
    RequestQuery,
    RequestTotals,
    boundary,
    days_ago,
    filtered,
    has_text,
    named,
    newest,
    of_name,
    sorted_page,
    totals,
    with_text,
)
from budget_sync.queries.timeline import CheckLine, ReservationLine

#: How far back the list of uncovered checks goes, and that of all denied ones.
UNCOVERED_FOR = timedelta(days=30)
DENIED_FOR = timedelta(days=90)

#: The columns by which the lists of reservations and of checks can be sorted.
RESERVATION_ORDERS: dict[str, Any] = {
    "request": Reservation.requestId,
    "person": Reservation.requesterName,
    "vendor": purchases.of_latest_check("vendor"),
    "purpose": purchases.of_latest_check("purpose"),
    "budget": Budget.departmentKey,
    "reserved": in_whole_units(Reservation.amountMinor),
    "held": in_whole_units(Reservation.heldMinor),
    "committed": in_whole_units(Reservation.committedMinor - Reservation.reversedMinor),
    "released": in_whole_units(Reservation.releasedMinor),
    "age": Reservation.createdAt,
    "closed": Reservation.closedAt,
}
CHECK_ORDERS: dict[str, Any] = {
    "request": BudgetCheckLog.requestId,
    "person": BudgetCheckLog.userName,
    "vendor": BudgetCheckLog.vendor,
    "purpose": BudgetCheckLog.purpose,
    "budget": BudgetCheckLog.department,
    "amount": BudgetCheckLog.amountMinor,
    "code": BudgetCheckLog.code,
    "age": BudgetCheckLog.timestamp,
}


def reservations_page(
    actor: Actor, customer_id: str, query: RequestQuery, size: int | None = None
) -> tuple[list[ReservationLine], int | None]:
    """A page of reservations, and `after` for the next page. Ordinary users get only their own.

    Raises RequestError INVALID_REQUEST for a text that is not a period.
    """
    rows = _reservations(actor, customer_id, query)
    size = size or paging.PAGE_SIZE
    if query.sort:
        rows = newest(rows, Reservation, customer_id) if query.status != "open" else rows
        rows = sorted_page(rows, RESERVATION_ORDERS, query, size, Reservation.seq)
        lines, last_line = paging.cut([ReservationLine(*row) for row in rows], size)
        return lines, last_line and last_line.seq
    if query.status == "open":
        order: tuple[Any, ...] = (Reservation.createdAt, Reservation.seq)
        last = query.after and Reservation.get_or_none(
            (Reservation.seq == query.after) & (Reservation.customerId == customer_id)
        )
        if last:
            rows = rows.where(
                (Reservation.createdAt > last.createdAt)
                | ((Reservation.createdAt == last.createdAt) & (Reservation.seq > last.seq))
            )
    else:
        # This order uses the primary key, backwards.
        order = (Reservation.seq.desc(),)
        if query.vendor:
            rows = newest(rows, Reservation, customer_id)
        if query.after is not None:
            rows = rows.where(Reservation.seq < query.after)
    found = [ReservationLine(*row) for row in rows.order_by(*order).limit(size + 1)]
    lines, last_line = paging.cut(found, size)
    return lines, last_line and last_line.seq


def reservations_total(actor: Actor, customer_id: str, query: RequestQuery) -> RequestTotals:
    """The totals of all reservations that match, or of the newest LOOKED_AT unless they are open.

    Raises RequestError as `reservations_page`.
    """
    rows = _reservations(actor, customer_id, query)
    is_cut = query.status != "open" and boundary(Reservation, customer_id) is not None
    rows = newest(rows, Reservation, customer_id) if is_cut else rows
    amounts = (
        Reservation.amountMinor,
        Reservation.heldMinor,
        Reservation.committedMinor - Reservation.reversedMinor,
        Reservation.releasedMinor,
    )
    lines = totals(rows, Budget.currency, Reservation.currencyExponent, amounts)
    return RequestTotals(lines, is_cut)


def _reservations(actor: Actor, customer_id: str, query: RequestQuery) -> Any:
    """The reservations that match and that the caller may read, in no order."""
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    rows = _matching(timeline.reservations(), customer_id, query)
    customer = Reservation.customerId
    if scope is Scope.OWN:
        # There is an index by customer and requester.
        return rows.where(customer == customer_id, Reservation.requesterId == actor.user_id)
    # Open ones have an index that begins with the customer and is ordered by age.
    return rows.where(
        (customer if query.status == "open" else paging.unindexed(customer)) == customer_id
    )


def _matching(rows: Any, customer_id: str, query: RequestQuery) -> Any:
    if query.status in ("open", "closed"):
        rows = rows.where(Reservation.status == query.status)
    if query.budget_id:
        rows = rows.where(Reservation.budgetId == query.budget_id)
    rows = of_name(rows, customer_id, query)
    if query.older_than_days is not None:
        rows = rows.where(Reservation.createdAt < days_ago(query.older_than_days))
    if query.waits_for_approval:
        rows = rows.where(Reservation.status == "open", undecided.waits_for_approval())
    text = query.text.strip()
    if text:
        rows = rows.where(
            Reservation.requestId.contains(text)
            | Reservation.requesterName.contains(text)
            | Reservation.requesterEmail.contains(text)
        )
    if query.person:
        rows = rows.where(
            has_text(
                query.person,
                (Reservation.requesterName, Reservation.requesterEmail, Reservation.requesterId),
            )
        )
    if query.vendor:
        rows = rows.where(purchases.of_latest_check("vendor").contains(query.vendor))
    return rows


def uncovered_page(
    actor: Actor, customer_id: str, query: RequestQuery, size: int | None = None
) -> tuple[list[CheckLine], int | None]:
    """A page of the uncovered checks of the last UNCOVERED_FOR, newest first.

    Also returns `after` for the next page. Ordinary users get only their own checks.
    """
    return _page_of_checks(
        _denied(actor, customer_id, query, is_open=True), customer_id, query, size
    )


def denied_page(
    actor: Actor, customer_id: str, query: RequestQuery, size: int | None = None
) -> tuple[list[CheckLine], int | None]:
    """As `uncovered_page`: checks of the last DENIED_FOR that found no budget, or too little."""
    rows = _denied(actor, customer_id, query, is_open=False)
    return _page_of_checks(rows, customer_id, query, size)


def denied_total(
    actor: Actor, customer_id: str, query: RequestQuery, *, is_open: bool
) -> RequestTotals:
    """The totals of `uncovered_page` if `is_open`, otherwise of `denied_page`."""
    rows = _denied(actor, customer_id, query, is_open=is_open)
    check = BudgetCheckLog
    lines = totals(rows, check.currency, check.currencyExponent, (check.amountMinor,))
    return RequestTotals(lines, is_cut=False)


def _denied(actor: Actor, customer_id: str, query: RequestQuery, *, is_open: bool) -> Any:
    """The denied checks that match, in no order; with `is_open`, only those that still wait."""
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    # This uses the index of denied checks.
    rows = timeline.checks().where(
        BudgetCheckLog.customerId == customer_id,
        BudgetCheckLog.timestamp > clock.now() - (UNCOVERED_FOR if is_open else DENIED_FOR),
        undecided.is_uncovered() if is_open else undecided.is_denied(),
    )
    people = (BudgetCheckLog.userName, BudgetCheckLog.userEmail)
    texts = (BudgetCheckLog.requestId, *people, BudgetCheckLog.vendor)
    if is_open:
        rows = filtered(rows, BudgetCheckLog.budgetId, texts, customer_id, query)
    else:
        rows = with_text(
            named(rows, customer_id, query), (*texts, BudgetCheckLog.department), query
        )
    if query.older_than_days is not None:
        rows = rows.where(BudgetCheckLog.timestamp < days_ago(query.older_than_days))
    if query.person:
        rows = rows.where(has_text(query.person, (*people, BudgetCheckLog.userId)))
    if query.vendor:
        rows = rows.where(has_text(query.vendor, (BudgetCheckLog.vendor,)))
    if scope is Scope.OWN:
        rows = rows.where(BudgetCheckLog.checkedBy == actor.principal)
    return rows


def _page_of_checks(
    rows: Any, customer_id: str, query: RequestQuery, size: int | None
) -> tuple[list[CheckLine], int | None]:
    size = size or paging.PAGE_SIZE
    if query.sort:
        rows = sorted_page(rows, CHECK_ORDERS, query, size, BudgetCheckLog.id)
    else:
        last = query.after and BudgetCheckLog.get_or_none(
            (BudgetCheckLog.id == query.after) & (BudgetCheckLog.customerId == customer_id)
        )
        if last:
            rows = rows.where(
                (BudgetCheckLog.timestamp < last.timestamp)
                | ((BudgetCheckLog.timestamp == last.timestamp) & (BudgetCheckLog.id < last.id))
            )
        newest_first = (BudgetCheckLog.timestamp.desc(), BudgetCheckLog.id.desc())
        rows = rows.order_by(*newest_first).limit(size + 1)
    lines, last_line = paging.cut([CheckLine(*row) for row in rows], size)
    return lines, last_line and last_line.id


def uncovered_check(actor: Actor, customer_id: str, request_id: str) -> CheckLine | None:
    """The uncovered check of one request, of any age."""
    scope = require_for(actor, Action.READ_REQUESTS, customer_id)
    rows = timeline.checks().where(
        BudgetCheckLog.customerId == customer_id,
        BudgetCheckLog.requestId == request_id,
        undecided.is_uncovered(),
    )
    if scope is Scope.OWN:
        rows = rows.where(BudgetCheckLog.checkedBy == actor.principal)
    row = rows.order_by(BudgetCheckLog.id.desc()).first()
    return CheckLine(*row) if row else None
