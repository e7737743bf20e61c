"""The checks of one day: the list behind a bar of the overview's chart, and its CSV export."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask import Response

from budget_sync.domain import clock
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.money import to_number
from budget_sync.queries.check_list import DECISIONS, CheckQuery, checks_export, checks_page
from budget_sync.web.console import formats
from budget_sync.web.console.audit import MAX_YEAR, MIN_YEAR
from budget_sync.web.console.base import argument, console, csv_response, number, page, viewer

LABELS = {
    "": "All",
    "auto": "Auto-approved",
    "manual": "For FP&A to approve",
    "denied": "Not covered",
}


@console.get("/checks")
def checks() -> Response:
    """A page of the day's checks."""
    who, query = viewer(), _query()
    lines, before = checks_page(who.actor, who.customer, query)
    day = query.day.isoformat()
    return page(
        "checks.html",
        query=query,
        day=day,
        title=formats.date_text(query.day),
        lines=lines,
        before=before,
        tabs=[
            (name, label, f"?{urlencode({'day': day, 'decision': name})}")
            for name, label in LABELS.items()
        ],
        export=urlencode({"day": day, "decision": query.decision}),
    )


@console.get("/checks.csv")
def checks_csv() -> Response:
    """All checks that match the page's filters."""
    who, query = viewer(), _query()
    zone = ZoneInfo(who.customer.timeZone)
    header = (
        "Request", "Person", "Email", "Vendor", "Purpose", "Department", "Fiscal Period",
        "Budget ID", "Currency", "Asked for", "Decision", "Reason", f"Checked at ({zone.key})",
    )  # fmt: skip
    lines = checks_export(who.actor, who.customer, query)
    return csv_response(f"checks-{query.day}.csv", header, (_cells(line, zone) for line in lines))


def _cells(line: Any, zone: ZoneInfo) -> tuple[object, ...]:
    return (
        line.request_id, line.user, line.email, line.vendor, line.purpose, line.department,
        line.period, line.budget_id, line.currency, to_number(line.amount_minor, line.exponent),
        formats.DECISIONS.get(line.code, line.code), line.reason,
        formats.csv_time(line.at, zone),
    )  # fmt: skip


def _query() -> CheckQuery:
    decision = argument("decision")
    return CheckQuery(
        day=_day(), decision=decision if decision in DECISIONS else "", before=number("before")
    )


def _day() -> date:
    """The chosen day, or today in the customer's time zone. Raises RequestError INVALID_REQUEST."""
    text = argument("day")
    if not text:
        return clock.now().astimezone(ZoneInfo(viewer().customer.timeZone)).date()
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007  # a day without a time
    except ValueError:
        raise invalid_request({"day": "must be a day such as 2025-02-05"}) from None
    if not MIN_YEAR <= day.year <= MAX_YEAR:
        raise invalid_request({"day": f"must be a day from {MIN_YEAR} to {MAX_YEAR}"})
    return day
