"""The audit log: search and CSV export."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from urllib.parse import urlencode

from flask import Response

from budget_sync.domain.errors import invalid_request
from budget_sync.domain.money import to_number
from budget_sync.queries.audit import (
    LOOKED_AT,
    AuditLine,
    AuditQuery,
    audit_export,
    audit_page,
    time_of,
)
from budget_sync.queries.paging import PAGE_SIZE
from budget_sync.web.console import formats
from budget_sync.web.console.base import argument, console, csv_response, number, page, viewer

#: The years that a search accepts. No row is outside them.
MIN_YEAR, MAX_YEAR = 1970, 2999

HEADER = (
    "Action", "Department", "Fiscal Period", "Budget ID", "Request", "Field",
    "Before", "After", "Currency", "Budgeted change", "Reserved change", "Committed change", "By",
    "For", "Approved by", "Reason", "Reference", "About", "Transfer",
)  # fmt: skip


@console.get("/audit")
def audit() -> Response:
    """A page of the audit log."""
    who, query = viewer(), _query()
    lines, before = audit_page(who.actor, who.customer.id, query)
    filters = {
        name: argument(name) for name in ("q", "action", "budget", "from", "to") if argument(name)
    }
    return page(
        "audit.html",
        query=query,
        lines=lines,
        filters=filters,
        actions=formats.ACTIONS.items(),
        before=before,
        # Fewer rows than a page has, and there is a next page: not all rows were searched.
        looked_at=LOOKED_AT,
        searched_to=time_of(who.actor, who.customer.id, before)
        if before is not None and len(lines) < PAGE_SIZE
        else None,
        export_link=f"audit.csv?{urlencode(filters)}",
    )


@console.get("/audit.csv")
def audit_csv() -> Response:
    """All rows that match the page's filters."""
    who = viewer()
    lines = audit_export(who.actor, who.customer.id, _query())
    zone = who.customer.timeZone
    return csv_response("audit.csv", (f"Time ({zone})", *HEADER), _rows(lines, zone))


def _rows(lines: Iterator[AuditLine], zone: str) -> Iterator[tuple[object, ...]]:
    for line in lines:
        deltas = (line.budgeted_delta_minor, line.reserved_delta_minor, line.committed_delta_minor)
        exponent = line.exponent
        amounts = ("" if exponent is None else to_number(minor, exponent) for minor in deltas)
        yield (
            formats.local_time(line.at, zone), formats.ACTIONS.get(line.action, line.action),
            line.department, line.period, line.budget_id, line.request_id, line.field,
            line.old, line.new, line.currency, *amounts, line.changed_by,
            line.on_behalf_of, line.approved_by, line.reason, line.external_ref, line.subject,
            line.transfer_id,
        )  # fmt: skip


def _query() -> AuditQuery:
    until = _day("to")
    return AuditQuery(
        text=argument("q"),
        action=argument("action") if argument("action") in formats.ACTIONS else "",
        budget_id=argument("budget"),
        since=_day("from"),
        until=until and until + timedelta(days=1),
        before=number("before"),
    )


def _day(name: str) -> datetime | None:
    """The start of a day in the viewer's time zone. Raises RequestError INVALID_REQUEST."""
    text = argument(name)
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=viewer().zone)
    except ValueError:
        raise invalid_request({name: "must be a day such as 2025-02-05"}) from None
    # For the first and last days that `datetime` supports, the next day or the same time in UTC
    # would be out of range.
    if not MIN_YEAR <= day.year <= MAX_YEAR:
        raise invalid_request({name: f"must be a day from {MIN_YEAR} to {MAX_YEAR}"})
    return day
