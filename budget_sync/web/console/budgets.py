"""Budgets: the list, its CSV export, and the page of one budget."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from flask import Response

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database.models import Customer
from budget_sync.domain import clock
from budget_sync.domain.periods import period_dates
from budget_sync.domain.permissions import Action
from budget_sync.ledger.policy import CustomerDefaults, auto_approve_limit
from budget_sync.queries.audit import budget_history
from budget_sync.queries.budgets import (
    BUDGET_ORDERS,
    BUDGET_STATES,
    BudgetLine,
    BudgetQuery,
    Point,
    budget_line,
    budgets_export,
    budgets_page,
    burn_down,
)
from budget_sync.queries.overview import periods
from budget_sync.queries.paging import pages
from budget_sync.queries.request_query import RequestQuery
from budget_sync.queries.requests import reservations_page
from budget_sync.queries.sync_runs import source_lines
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

#: The most open reservations on a budget's page.
SHOWN = 10

HEADER = (
    "Budget ID", "Department", "Fiscal Period", "Currency", "Budgeted", "Reserved", "Committed",
    "Available", "Used %", "State", "Id in the sheet", "Row",
)  # fmt: skip


@console.get("/budgets")
def budgets() -> Response:
    """A page of the list."""
    who, query = viewer(), _query()
    lines, total = budgets_page(who.actor, who.customer.id, query)
    limit_x = charts.limit_position(line.balance for line in lines)

    def bar(line: BudgetLine) -> str:
        if line.deleted_at:
            return ""
        label = formats.balance_label(line.name, line.balance)
        return charts.bar(line.balance, label, limit_x)

    return page(
        "budgets.html",
        query=query,
        lines=[(line, bar(line)) for line in lines],
        total=total,
        pages=pages(total),
        periods=periods(who.actor, who.customer.id),
        states=[(state, formats.BUDGET_STATES[state]) for state in BUDGET_STATES],
        order_link=lambda column: link(sort=f"-{column}" if query.order == column else column),
        is_filtered=bool(query.text.strip() or query.period_key or query.state != "live"),
    )


@console.get("/budgets.csv")
def budgets_csv() -> Response:
    """All budgets that match the page's filters."""
    who = viewer()
    lines = budgets_export(who.actor, who.customer.id, _query())
    return csv_response("budgets.csv", HEADER, map(_row, lines))


def _row(line: BudgetLine) -> tuple[object, ...]:
    balance = line.balance
    return (
        line.id,
        line.department,
        line.period,
        balance.currency,
        balance.number(balance.budgeted_minor),
        balance.number(balance.reserved_minor),
        balance.number(balance.committed_minor),
        balance.number(balance.available_minor),
        round(balance.percent_used, 1),
        formats.BUDGET_STATES[line.state],
        line.external_id or "",
        line.source_row or "",
    )


def _query() -> BudgetQuery:
    state, order = argument("state"), argument("sort")
    return BudgetQuery(
        text=argument("q"),
        period_key=argument("period"),
        state=state if state in BUDGET_STATES else "live",
        order=order if order.removeprefix("-") in BUDGET_ORDERS else "department",
        page=page_number(),
    )


@console.get("/budget")
def budget() -> Response:
    """One budget."""
    who = viewer()
    actor, customer = who.actor, who.customer
    line = budget_line(actor, customer.id, argument("id"))
    history, older = (
        budget_history(actor, customer.id, line.id, number("before"))
        if who.may(Action.READ_AUDIT)
        else ([], None)
    )
    reservations, more = reservations_page(actor, customer.id, RequestQuery(budget_id=line.id))
    sources = (
        {source.id: source for source in source_lines(actor, customer.id)}
        if who.may(Action.READ_SYNC)
        else {}
    )
    return page(
        "budget.html",
        line=line,
        bar=charts.bar(line.balance, formats.balance_label(line.name, line.balance)),
        burn=_burn(line, burn_down(actor, customer.id, line), customer),
        reservations=reservations[:SHOWN],
        more=more is not None or len(reservations) > SHOWN,
        history=history,
        older=older,
        source=sources.get(line.source_id or ""),
        limit_minor=_auto_approve_limit(line, customer),
    )


def _auto_approve_limit(line: BudgetLine, customer: Customer) -> int | None:
    defaults = CustomerDefaults(
        customer.currency, customer.currencyExponent, customer.autoApproveLimitMinor
    )
    return auto_approve_limit(line.balance, line.auto_approve_limit_minor, defaults)


def _burn(line: BudgetLine, points: list[Point], customer: Customer) -> dict[str, object] | None:
    """The burn-down chart and its texts, in the customer's time zone; None without any points."""
    if not points:
        return None
    zone, now = ZoneInfo(customer.timeZone), clock.now()
    period = _midnights(line.period_key, customer)
    if period and points[0].at >= period[1]:
        period = None
    start, end = _span(points, period, now)
    balance = line.balance
    used, budgeted, left = (
        formats.balance_money(balance, minor)
        for minor in (balance.used_minor, balance.budgeted_minor, abs(balance.available_minor))
    )
    rest = f"it is overdrawn by {left}" if balance.available_minor < 0 else f"{left} is left"
    summary = f"{used} of {budgeted} is used; {rest}."
    chart = charts.burn_down(
        points, start, end, now, balance.budgeted_minor if period else None, summary
    )
    return {
        "chart": chart.svg,
        "axis": [
            formats.money_axis(minor, balance.currency, balance.exponent) for minor in chart.ticks
        ],
        "has_pace": period is not None,
        "has_today": start < now < end,
        "start": formats.day(start, zone),
        "end": formats.day(end - timedelta(seconds=1), zone),
        "summary": summary,
    }


def _midnights(period_key: str, customer: Customer) -> tuple[datetime, datetime] | None:
    """When a period starts and ends in the customer's time zone; None if its dates are unknown."""
    dates = period_dates(period_key, fiscal_year_of(customer))
    if dates is None:
        return None
    zone = ZoneInfo(customer.timeZone)
    first, after = (datetime(day.year, day.month, day.day, tzinfo=zone) for day in dates)
    return first, after


def _span(
    points: list[Point], period: tuple[datetime, datetime] | None, now: datetime
) -> tuple[datetime, datetime]:
    """The time span of the chart: the period, extended to all points; or only the points."""
    first, last = points[0].at, points[-1].at
    last = max(last + timedelta(hours=1), min(now, last + timedelta(days=1)))
    if period:
        return min(period[0], first), max(period[1], last)
    return first, max(last, first + timedelta(days=1))
