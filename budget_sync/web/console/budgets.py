"""Budgets: the list, its CSV file, and one budget's page."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from flask import Response

from budget_sync import queries
from budget_sync.database.models import Customer
from budget_sync.domain import clock
from budget_sync.domain.money import to_number
from budget_sync.domain.periods import period_dates
from budget_sync.domain.permissions import Action
from budget_sync.queries import BudgetLine, BudgetQuery, Point, overview
from budget_sync.web import charts
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

#: Open reservations on a budget's own page.
SHOWN = 10


@console.get("/budgets")
def budgets() -> Response:
    """A page of the list."""
    who, query = viewer(), _query()
    lines, total = queries.budgets_page(who.actor, who.customer.id, query)
    end = charts.budget_end(line.figures for line in lines)
    return page(
        "budgets.html",
        query=query,
        lines=[
            (
                line,
                charts.bar(line.figures, formats.figures(line.name, line.figures), end)
                if not line.deleted_at
                else "",
            )
            for line in lines
        ],
        total=total,
        pages=queries.pages(total),
        periods=overview.periods(who.actor, who.customer.id),
        states=[(state, formats.BUDGET_STATES[state]) for state in queries.BUDGET_STATES],
        order_link=lambda column: link(sort=f"-{column}" if query.order == column else column),
        is_filtered=bool(query.text.strip() or query.period_key or query.state != "live"),
    )


@console.get("/budgets.csv")
def budgets_csv() -> Response:
    """The whole list that the page's filters find."""
    who = viewer()
    lines = queries.budgets_export(who.actor, who.customer.id, _query())
    header = (
        "Budget ID",
        "Department",
        "Fiscal Period",
        "Currency",
        "Budgeted",
        "Reserved",
        "Committed",
        "Available",
        "Used %",
        "State",
        "Id in the sheet",
        "Row",
    )
    return csv_response("budgets.csv", header, map(_row, lines))


def _row(line: BudgetLine) -> tuple[object, ...]:
    figures = line.figures
    amounts = (
        figures.budgeted_minor,
        figures.reserved_minor,
        figures.committed_minor,
        figures.available_minor,
    )
    numbers = [to_number(minor, figures.exponent) for minor in amounts]
    state = formats.BUDGET_STATES[line.state]
    return (
        line.id,
        line.department,
        line.period,
        figures.currency,
        *numbers,
        round(figures.percent_used, 1),
        state,
        line.external_id or "",
        line.source_row or "",
    )


def _query() -> BudgetQuery:
    state, order = argument("state"), argument("sort")
    return BudgetQuery(
        text=argument("q"),
        period_key=argument("period"),
        state=state if state in queries.BUDGET_STATES else "live",
        order=order if order.removeprefix("-") in queries.BUDGET_ORDERS else "department",
        page=page_number(),
    )


@console.get("/budget")
def budget() -> Response:
    """One budget."""
    who = viewer()
    actor, customer = who.actor, who.customer
    line = queries.budget_line(actor, customer.id, argument("id"))
    may_audit = who.may(Action.READ_AUDIT)
    history, older = (
        queries.budget_history(actor, customer.id, line.id, number("before"))
        if may_audit
        else ([], None)
    )
    reservations, more = queries.reservations_page(
        actor, customer.id, queries.RequestQuery(budget_id=line.id)
    )
    sources = (
        {source.id: source for source in queries.source_lines(actor, customer.id)}
        if who.may(Action.READ_SYNC)
        else {}
    )
    return page(
        "budget.html",
        line=line,
        bar=charts.bar(line.figures, formats.figures(line.name, line.figures)),
        burn=_burn(line, queries.burn_down(actor, customer.id, line), customer),
        reservations=reservations[:SHOWN],
        more=more is not None or len(reservations) > SHOWN,
        history=history,
        older=older,
        source=sources.get(line.source_id or ""),
    )


def _burn(line: BudgetLine, points: list[Point], customer: Customer) -> dict[str, object] | None:
    """The chart of what is left of a budget, by the customer's calendar; None where nothing is known of its past."""
    if not points:
        return None
    zone, now = ZoneInfo(customer.timeZone), clock.now()
    period = _midnights(line.period_key, customer)
    if period and points[0].at >= period[1]:
        period = None
    start, end = _span(points, period, now)
    figures = line.figures
    unit = (figures.currency, figures.exponent)
    left = formats.money_short(abs(figures.available_minor), *unit)
    summary = (
        f"{formats.money_short(figures.used_minor, *unit)} of {formats.money_short(figures.budgeted_minor, *unit)} is spoken for; "
        f"{f'it is overdrawn by {left}' if figures.available_minor < 0 else f'{left} is left'}."
    )
    chart = charts.burn_down(
        points, start, end, now, figures.budgeted_minor if period else None, summary
    )
    return {
        "chart": chart.svg,
        "axis": [formats.money_axis(minor, *unit) for minor in chart.ticks],
        "has_pace": period is not None,
        "has_today": start < now < end,
        "start": formats.day(start, zone),
        "end": formats.day(end - timedelta(seconds=1), zone),
        "summary": summary,
    }


def _midnights(period_key: str, customer: Customer) -> tuple[datetime, datetime] | None:
    """When a period begins and ends at the customer's; None for one of no known form."""
    dates = period_dates(period_key, customer.fiscalYearStartMonth)
    if dates is None:
        return None
    first, after = (
        datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(customer.timeZone)) for day in dates
    )
    return first, after


def _span(
    points: list[Point], period: tuple[datetime, datetime] | None, now: datetime
) -> tuple[datetime, datetime]:
    """From the period's beginning to its end, and on to what happened before or after; without a period, what happened alone."""
    first, last = points[0].at, points[-1].at
    last = max(last + timedelta(hours=1), min(now, last + timedelta(days=1)))
    if period:
        return min(period[0], first), max(period[1], last)
    return first, max(last, first + timedelta(days=1))
