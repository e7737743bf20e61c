"""The Requests page: reservations, denied checks and spend; filters, order, totals, CSV export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask import Response

from budget_sync.domain.money import to_number
from budget_sync.domain.permissions import Action, Scope, scope_of
from budget_sync.queries import requests as lists
from budget_sync.queries import spends
from budget_sync.queries.budgets import budget_line, departments
from budget_sync.queries.overview import periods
from budget_sync.queries.purchases import Purchase, purchases
from budget_sync.queries.request_query import LOOKED_AT, RequestQuery, RequestTotals
from budget_sync.web.console import formats
from budget_sync.web.console.base import (
    argument,
    console,
    csv_response,
    link,
    number,
    page,
    page_number,
    viewer,
)

#: Rows per query of an export.
EXPORT_CHUNK = 1000

#: The query parameters that filter a list. They stay when the viewer opens another tab.
_FILTERS = ("q", "department", "period", "person", "vendor", "days", "budget")


@dataclass(frozen=True, slots=True)
class View:
    """A tab of the page: its list, its totals, and the columns by which it can be sorted.

    `status` is that of its reservations.
    """

    label: str
    page: Callable[..., tuple[list[Any], int | None]]
    total: Callable[..., RequestTotals]
    orders: dict[str, Any]
    status: str = "all"


def _reservations(label: str, status: str) -> View:
    return View(
        label,
        lists.reservations_page,
        lists.reservations_total,
        lists.RESERVATION_ORDERS,
        status,
    )


def _total_of_uncovered(*arguments: Any) -> RequestTotals:
    return lists.denied_total(*arguments, is_open=True)


def _total_of_denied(*arguments: Any) -> RequestTotals:
    return lists.denied_total(*arguments, is_open=False)


VIEWS = {
    "open": _reservations("Open", "open"),
    "waiting": _reservations("Waiting for approval", "open"),
    "uncovered": View("Not covered", lists.uncovered_page, _total_of_uncovered, lists.CHECK_ORDERS),
    "denied": View("Denied", lists.denied_page, _total_of_denied, lists.CHECK_ORDERS),
    "closed": _reservations("Closed", "closed"),
    "all": _reservations("All", "all"),
    "spend": View("Spend", spends.spends_page, spends.spends_total, spends.SPEND_ORDERS),
}

#: The views that list checks.
CHECK_VIEWS = ("uncovered", "denied")


@console.get("/requests")
def requests() -> Response:
    """A page of reservations, of denied checks, or of spend."""
    who = viewer()
    actor, customer = who.actor, who.customer.id
    shown, views = _shown()
    query = _query(shown)
    lines, after = views[shown].page(actor, customer, query)
    total = views[shown].total(actor, customer, query)
    filters = {name: argument(name) for name in _FILTERS if argument(name).strip()}
    return page(
        "requests.html",
        tabs=[
            (name, view.label, f"?{urlencode({'view': name, **filters})}")
            for name, view in views.items()
        ],
        shown=shown,
        query=query,
        filters=filters,
        lines=lines,
        purchases=_purchases(shown, lines),
        total=total,
        looked_at=LOOKED_AT,
        following=_following(query, after),
        order_link=lambda column: link(
            sort=f"-{column}" if query.sort == column else column, after=""
        ),
        budget=budget_line(actor, customer, query.budget_id) if query.budget_id else None,
        departments=departments(actor, customer),
        periods=periods(actor, customer),
        is_own=_is_own(),
        export=urlencode({"view": shown, **filters}),
    )


def _is_own() -> bool:
    return scope_of(viewer().actor, Action.READ_REQUESTS) is Scope.OWN


def _shown() -> tuple[str, dict[str, View]]:
    """The name of the chosen view, and the views that the viewer may open."""
    views = {name: view for name, view in VIEWS.items() if not (_is_own() and name == "spend")}
    return argument("view") if argument("view") in views else "open", views


def _query(shown: str) -> RequestQuery:
    sort = argument("sort")
    return RequestQuery(
        status=VIEWS[shown].status,
        text=argument("q"),
        budget_id=argument("budget"),
        waits_for_approval=shown == "waiting",
        department=argument("department").strip(),
        period=argument("period").strip(),
        person=argument("person").strip(),
        vendor=argument("vendor").strip(),
        older_than_days=_days(),
        after=number("after"),
        sort=sort if sort.removeprefix("-") in VIEWS[shown].orders else "",
        page=page_number(),
    )


def _days() -> int | None:
    """The age from which requests are listed, at most 100 years; None for all."""
    days = number("days")
    return min(days, 36_500) if days else None


def _following(query: RequestQuery, after: int | None) -> str | None:
    """The link to the next page; None on the last one."""
    if after is None:
        return None
    return link(page=query.page + 1) if query.sort else link(after=after)


def _purchases(shown: str, lines: list[Any]) -> dict[str, Purchase]:
    """The vendor and purpose of each reservation's request. Checks and spends have their own."""
    if shown in CHECK_VIEWS or shown == "spend":
        return {}
    who = viewer()
    return purchases(who.actor, who.customer.id, [line.request_id for line in lines])


@console.get("/requests.csv")
def requests_csv() -> Response:
    """All rows that match the page's filters, in the usual order of the view."""
    shown, _ = _shown()
    who = viewer()
    zone = ZoneInfo(who.customer.timeZone)
    header, to_cells = _COLUMNS[
        "check" if shown in CHECK_VIEWS else "spend" if shown == "spend" else "reservation"
    ]
    titles = tuple(title.replace("{zone}", zone.key) for title in header)
    return csv_response(
        f"requests-{shown}.csv",
        titles,
        _exported(shown, replace(_query(shown), after=None, sort="", page=1), to_cells, zone),
    )


def _exported(
    shown: str, query: RequestQuery, to_cells: Callable[..., tuple[object, ...]], zone: ZoneInfo
) -> Iterator[tuple[object, ...]]:
    """The rows of an export, read in chunks while it is sent. The first one is read at once."""
    who = viewer()

    def chunk(after: int | None) -> tuple[list[Any], int | None, dict[str, Purchase]]:
        lines, rest = VIEWS[shown].page(
            who.actor, who.customer.id, replace(query, after=after), EXPORT_CHUNK
        )
        return lines, rest, _purchases(shown, lines)

    first = chunk(None)

    def read() -> Iterator[tuple[object, ...]]:
        lines, after, bought = first
        while True:
            for line in lines:
                yield to_cells(line, bought, zone)
            if after is None:
                return
            lines, after, bought = chunk(after)

    return read()


def _reservation_cells(
    line: Any, bought: dict[str, Purchase], zone: ZoneInfo
) -> tuple[object, ...]:
    purchase = bought.get(line.request_id, Purchase())
    amounts = (line.amount_minor, line.held_minor, line.committed_minor, line.released_minor)
    return (
        line.request_id, line.requester, line.requester_email, purchase.vendor, purchase.purpose,
        line.department, line.period, line.budget_id, line.currency,
        *(to_number(minor, line.exponent) for minor in amounts),
        "Waiting for approval" if line.waits_for_approval else line.status.capitalize(),
        formats.csv_time(line.created_at, zone), formats.csv_time(line.closed_at, zone),
        formats.csv_time(line.expires_at, zone) if line.status == "open" else "",
    )  # fmt: skip


def _check_cells(line: Any, _: dict[str, Purchase], zone: ZoneInfo) -> tuple[object, ...]:
    return (
        line.request_id, line.user, line.email, line.vendor, line.purpose, line.department,
        line.period, line.budget_id, line.currency, to_number(line.amount_minor, line.exponent),
        formats.DECISIONS.get(line.code, line.code), line.reason, formats.csv_time(line.at, zone),
    )  # fmt: skip


def _spend_cells(line: Any, _: dict[str, Purchase], zone: ZoneInfo) -> tuple[object, ...]:
    return (
        line.id, line.vendor, line.reason, line.external_ref, line.department, line.period,
        line.budget_id, line.currency, to_number(line.amount_minor, line.exponent),
        to_number(line.reversed_minor, line.exponent), line.spent_on.isoformat(),
        line.recorded_by, formats.csv_time(line.created_at, zone),
    )  # fmt: skip


_NAMES = ("Department", "Fiscal Period", "Budget ID", "Currency")

#: Of each kind of row: the header of its CSV file, and the cells of a row.
_COLUMNS: dict[str, tuple[tuple[str, ...], Callable[..., tuple[object, ...]]]] = {
    "reservation": (
        (
            "Request", "Person", "Email", "Vendor", "Purpose", *_NAMES, "Reserved", "Held",
            "Committed", "Released", "State", "Reserved at ({zone})", "Closed at ({zone})",
            "Expires at ({zone})",
        ),
        _reservation_cells,
    ),
    "check": (
        (
            "Request", "Person", "Email", "Vendor", "Purpose", *_NAMES, "Asked for", "Decision",
            "Reason", "Checked at ({zone})",
        ),
        _check_cells,
    ),
    "spend": (
        (
            "Spend", "Vendor", "Reason", "Reference", *_NAMES, "Spent", "Reversed", "Date",
            "Recorded by", "Recorded at ({zone})",
        ),
        _spend_cells,
    ),
}  # fmt: skip
