"""Budgets: the list, its CSV file, and one budget's page."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from flask import Response

from budget_sync import clock, listings, overview
from budget_sync.listings import BudgetLine, BudgetQuery, Point
from budget_sync.money import currency_exponent, to_number
from budget_sync.periods import period_dates
from budget_sync.permissions import Action
from budget_sync.web import charts
from budget_sync.web.console import formats
from budget_sync.web.console.frame import argument, console, csv_response, link, number, page, page_number, viewer


@console.get("/budgets")
def budgets() -> Response:
    """A page of the list."""
    who, query = viewer(), _query()
    lines, total = listings.budgets_page(who.actor, who.customer.id, query)
    return page(
        "budgets.html",
        query=query,
        lines=[(line, charts.bar(line.figures, formats.figures(line.department, line.figures)) if not line.deleted_at else "") for line in lines],
        total=total,
        pages=listings.pages(total),
        periods=overview.periods(who.actor, who.customer.id),
        states=[(state, formats.BUDGET_STATES[state]) for state in listings.BUDGET_STATES],
        order_link=lambda column: link(sort=f"-{column}" if query.order == column else column),
        is_filtered=bool(query.text.strip() or query.period_key or query.state != "live"),
    )


@console.get("/budgets.csv")
def budgets_csv() -> Response:
    """The whole list that the page's filters find."""
    who = viewer()
    lines = listings.budgets_export(who.actor, who.customer.id, _query())
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
    return csv_response("budgets.csv", formats.csv_lines(header, map(_row, lines)))


def _row(line: BudgetLine) -> tuple[object, ...]:
    figures, exponent = line.figures, currency_exponent(line.figures.currency)
    amounts = (figures.budgeted_minor, figures.reserved_minor, figures.committed_minor, figures.available_minor)
    numbers = [to_number(minor, exponent) for minor in amounts]
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
        state=state if state in listings.BUDGET_STATES else "live",
        order=order if order.removeprefix("-") in listings.BUDGET_ORDERS else "department",
        page=page_number(),
    )


@console.get("/budget")
def budget() -> Response:
    """One budget."""
    who = viewer()
    actor, customer = who.actor, who.customer
    line = listings.budget_line(actor, customer.id, argument("id"))
    may_audit = who.may(Action.READ_AUDIT)
    history, older = listings.budget_history(actor, customer.id, line.id, number("before")) if may_audit else ([], None)
    reservations, more = listings.reservations_page(actor, customer.id, listings.RequestQuery(budget_id=line.id))
    sources = {source.id: source for source in listings.source_lines(actor, customer.id)} if who.may(Action.READ_SYNC) else {}
    return page(
        "budget.html",
        line=line,
        bar=charts.bar(line.figures, formats.figures(line.department, line.figures)),
        burn=_burn(line, listings.burn_down(actor, customer.id, line), customer.fiscalYearStartMonth),
        reservations=reservations[:10],
        more=more is not None or len(reservations) > 10,
        history=history,
        older=older,
        source=sources.get(line.source_id or ""),
    )


def _burn(line: BudgetLine, points: list[Point], first_month: int) -> dict[str, object]:
    """The chart of what is left, from the period's first day or the first movement, to its last or the last one."""
    zone, now = viewer().zone, clock.now()
    dates = period_dates(line.period_key, first_month)

    def at(day: date) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=zone)

    first, last = points[0].at, max(points[-1].at + timedelta(hours=1), min(now, points[-1].at + timedelta(days=1)))
    start, end = (min(at(dates[0]), first), max(at(dates[1]), last)) if dates else (first, max(last, first + timedelta(days=1)))
    # A budget that is worked on long after its period: what happened matters more than the empty months before.
    outside = dates is not None and first >= at(dates[1])
    if outside:
        start, end = first, max(last, first + timedelta(days=1))
    has_pace = dates is not None and not outside
    currency, figures = line.figures.currency, line.figures
    most = max(max(point.figures.budgeted_minor, point.figures.used_minor) for point in points)
    low = min(0, *(point.figures.available_minor for point in points))
    spent = formats.money_short(figures.used_minor, currency)
    summary = (
        f"{spent} of {formats.money_short(figures.budgeted_minor, currency)} is spoken for; {formats.money_short(figures.available_minor, currency)} is left."
    )
    return {
        "chart": charts.burn_down(points, start, end, now, figures.budgeted_minor if has_pace else None, summary),
        "has_pace": has_pace,
        "outside": outside,
        "axis": [formats.money_axis(most + (low - most) * part // 4, currency) for part in range(5)],
        "start": formats.day(start, zone),
        "end": formats.day(end - timedelta(seconds=1), zone),
        "summary": summary,
    }
