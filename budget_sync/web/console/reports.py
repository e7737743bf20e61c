"""Reports: periods side by side, what changed between two days, and spend by vendor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Response, request, url_for

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database.models import Customer
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.money import to_number
from budget_sync.domain.permissions import Action
from budget_sync.queries import paging
from budget_sync.queries.as_of import PastDay, parse_past_day, past_day, today_of
from budget_sync.queries.budgets import departments
from budget_sync.queries.changes_between import Change, Changes, changes_between
from budget_sync.queries.compare import ComparedPeriod, Comparison, comparison
from budget_sync.queries.spend_totals import ADDED_UP, VendorRow, spend_export, spend_totals
from budget_sync.web.console import formats
from budget_sync.web.console.as_of import chosen_day
from budget_sync.web.console.base import argument, console, csv_response, page, page_number, viewer
from budget_sync.web.console.budgets import lines_csv

#: The tabs, with the action that each needs.
TABS = (
    ("Compare", "console.compare", Action.READ_BUDGETS),
    ("What changed", "console.changes", Action.READ_AUDIT),
    ("Spend", "console.spend_report", Action.READ_AUDIT),
)


class Figure(NamedTuple):
    """A figure of a balance that the comparison can show."""

    label: str
    text: Callable[[Balance], str]


def _money(minor: int, balance: Balance) -> str:
    return formats.cell_money(minor, balance.currency, balance.exponent)


FIGURES = {
    "budgeted": Figure("Budgeted", lambda each: _money(each.budgeted_minor, each)),
    "used": Figure("Used", lambda each: _money(each.used_minor, each)),
    "available": Figure("Available", lambda each: _money(each.available_minor, each)),
    "percent": Figure("Used %", lambda each: formats.percent(each.percent_used)),
}

#: The most periods of a comparison in its address.
MAX_PERIODS = 100


def report(template: str, **values: Any) -> Response:
    """A page with the tabs that the viewer may open."""
    who = viewer()
    here = request.endpoint
    tabs = [(label, endpoint) for label, endpoint, action in TABS if who.may(action)]
    return page(template, tabs=tabs, tab=here, **values)


@console.get("/compare")
def compare() -> Response:
    """Departments by periods."""
    found, day = _comparison(), chosen_day()
    chosen = argument("show") if argument("show") in FIGURES else ""
    figures = [FIGURES[chosen]] if chosen else list(FIGURES.values())
    return report(
        "compare.html",
        found=found,
        day=day,
        figures=figures,
        all_figures=FIGURES,
        shown=chosen,
        choices=_choices(found.periods, day, chosen),
        chosen_keys={period.key for period in found.chosen},
        change=_change,
        rows=paging.slice_of(found.rows, page_number()),
        page=page_number(),
        pages=paging.pages(len(found.rows)),
        export_link=_compare_link(
            "console.compare_csv", [period.key for period in found.chosen], day
        ),
    )


@console.get("/compare.csv")
def compare_csv() -> Response:
    """The budgets of the comparison, a row for each department and period."""
    return lines_csv("compare", chosen_day(), _comparison().lines)


def _comparison() -> Comparison:
    who = viewer()
    keys = request.args.getlist("period")[:MAX_PERIODS]
    return comparison(who.actor, who.customer, keys, chosen_day())


def _choices(
    periods: list[ComparedPeriod], day: PastDay | None, shown: str
) -> list[tuple[str, str]]:
    """Links to usual choices of periods, each with its label."""
    choices = {
        "This period and a year before": [],
        "Quarters": [each.key for each in periods if "-Q" in each.key],
        "Years": [each.key for each in periods if each.key.isdecimal()],
        "All periods": [each.key for each in periods],
    }
    return [
        (label, _compare_link("console.compare", keys, day, shown))
        for label, keys in choices.items()
        if keys or label.startswith("This")
    ]


def _compare_link(endpoint: str, keys: list[str], day: PastDay | None, shown: str = "") -> str:
    values = [("period", key) for key in keys]
    values += [("show", shown)] if shown else []
    values += [("asOf", str(day.day))] if day else []
    return f"{url_for(endpoint)}?{urlencode(values)}"


def _change(old: Balance | None, new: Balance | None) -> str:
    """The change of the used amount from the first of two periods to the second."""
    if old is None or new is None or old.exponent != new.exponent:
        return ""
    return formats.delta(new.used_minor - old.used_minor, new.currency, new.exponent)


def _link(endpoint: str, values: Mapping[str, object]) -> str:
    return f"{url_for(endpoint)}?{urlencode(values)}"


class Days(NamedTuple):
    """The two days that "What changed" compares."""

    start: PastDay
    end: PastDay


@console.get("/changes")
def changes() -> Response:
    """What changed between two days."""
    days, found = _changes()
    number = page_number()
    return report(
        "changes.html",
        days=days,
        found=found,
        budgets=paging.slice_of(found.budgets, number),
        page=number,
        pages=paging.pages(len(found.budgets)),
        export_link=_link("console.changes_csv", {"from": days.start.day, "to": days.end.day}),
    )


CHANGES_HEADER = (
    "Budget ID", "Department", "Fiscal Period", "Currency",
    "Budgeted before", "Budgeted after", "Budgeted change",
    "Reserved before", "Reserved after", "Reserved change",
    "Committed before", "Committed after", "Committed change",
    "Available before", "Available after", "Available change", "Note",
)  # fmt: skip


@console.get("/changes.csv")
def changes_csv() -> Response:
    """Each changed budget, before and after."""
    days, found = _changes()
    zone = viewer().customer.timeZone
    header = (*CHANGES_HEADER, f"End of ({zone})", f"Until the end of ({zone})")
    dates = days.start.day.isoformat(), days.end.day.isoformat()
    name = f"changes-{dates[0]}-{dates[1]}.csv"
    return csv_response(name, header, ((*_changed(each), *dates) for each in found.budgets))


def _changed(change: Change) -> tuple[object, ...]:
    before, after = change.before, change.after
    pairs = (
        (before.budgeted_minor, after.budgeted_minor),
        (before.reserved_minor, after.reserved_minor),
        (before.committed_minor, after.committed_minor),
        (before.available_minor, after.available_minor),
    )
    amounts = (after.number(minor) for old, new in pairs for minor in (old, new, new - old))
    note = "Created" if change.is_created else "Deleted" if change.is_deleted else ""
    return change.budget_id, change.name, change.period, after.currency, *amounts, note


def _changes() -> tuple[Days, Changes]:
    """The days that are asked for, and the changes. The default is since the end of last month."""
    who = viewer()
    today = today_of(who.customer)
    start = _day("from", today.replace(day=1) - timedelta(days=1))
    end = _day("to", today)
    if end.day < start.day:
        raise invalid_request({"to": "must not be before the first day"})
    return Days(start, end), changes_between(who.actor, who.customer, start, end)


def _day(name: str, default: date) -> PastDay:
    """A day of the form, or the default. Raises RequestError INVALID_REQUEST."""
    text, customer = argument(name), viewer().customer
    return parse_past_day(text, name, customer) if text else past_day(default, customer)


class SpendQuery(NamedTuple):
    """A search of the spend report."""

    first: date
    last: date
    vendor: str
    department: str


@console.get("/spend-report")
def spend_report() -> Response:
    """What was spent by vendor, department and month."""
    query = _spend_query()
    number, who = page_number(), viewer()
    found = spend_totals(who.actor, who.customer, *query)
    filters = {
        "from": query.first,
        "to": query.last,
        "q": query.vendor,
        "department": query.department,
    }
    return report(
        "spend_report.html",
        query=query,
        found=found,
        rows=paging.slice_of(found.rows, number),
        departments=departments(who.actor, who.customer.id),
        added_up=ADDED_UP,
        is_filtered=bool(query.vendor.strip() or query.department.strip()),
        page=number,
        pages=paging.pages(len(found.rows)),
        export_link=_link("console.spend_report_csv", filters),
    )


@console.get("/spend-report.csv")
def spend_report_csv() -> Response:
    """What was spent on all the days, a row for each month, vendor and department."""
    who = viewer()
    rows = spend_export(who.actor, who.customer, *_spend_query())
    header = ("Vendor", "Department", f"Month ({who.customer.timeZone})", "Currency", "Spent")
    return csv_response("spend.csv", header, _spend_rows(rows))


def _spend_rows(rows: Iterator[VendorRow]) -> Iterator[tuple[object, ...]]:
    for row in rows:
        for month, minor in sorted(row.months.items()):
            spent = to_number(minor, row.exponent)
            yield row.vendor, row.department, f"{month:%Y-%m}", row.currency, spent


def _spend_query() -> SpendQuery:
    """The search. The default is from the first day of the fiscal year until today."""
    customer = viewer().customer
    today = today_of(customer)
    return SpendQuery(
        _day("from", _first_day_of_year(customer, today)).day,
        _day("to", today).day,
        argument("q"),
        argument("department"),
    )


def _first_day_of_year(customer: Customer, today: date) -> date:
    fiscal_year = fiscal_year_of(customer)
    return fiscal_year.first_day(fiscal_year.name_at(today.year, today.month))
