"""Budgets: the list, its CSV export, and the page of one budget."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from flask import Response

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database.models import Customer
from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.forecast import Forecast, NoForecast
from budget_sync.domain.periods import period_dates
from budget_sync.domain.permissions import Action
from budget_sync.ledger.policy import CustomerDefaults, auto_approve_limit
from budget_sync.queries import paging
from budget_sync.queries.as_of import PastDay, line_at, search_at
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
from budget_sync.queries.departments import budget_forecast
from budget_sync.queries.overview import periods
from budget_sync.queries.request_query import RequestQuery
from budget_sync.queries.requests import reservations_page
from budget_sync.queries.sync_runs import source_lines, source_names
from budget_sync.web import charts
from budget_sync.web.console import formats
from budget_sync.web.console.as_of import as_of_column, chosen_day
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
    """A page of the list, of today or as of a past day."""
    who, query, day = viewer(), _query(), chosen_day()
    if day:
        found = search_at(who.actor, who.customer.id, day, query)
        lines, total = paging.slice_of(found, query.page), len(found)
    else:
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
        day=day,
        lines=[(line, bar(line)) for line in lines],
        total=total,
        pages=paging.pages(total),
        periods=periods(who.actor, who.customer.id),
        states=[(state, formats.BUDGET_STATES[state]) for state in _states(day)],
        order_link=lambda column: link(sort=f"-{column}" if query.order == column else column),
        is_filtered=bool(query.text.strip() or query.period_key or query.state != "live"),
        sheets=source_names(who.actor, who.customer.id) if who.may(Action.READ_SYNC) else None,
    )


@console.get("/budgets.csv")
def budgets_csv() -> Response:
    """All budgets that match the page's filters."""
    who, day = viewer(), chosen_day()
    if day:
        lines = search_at(who.actor, who.customer.id, day, _query())
    else:
        lines = budgets_export(who.actor, who.customer.id, _query())
    return lines_csv("budgets", day, lines)


def lines_csv(name: str, day: PastDay | None, lines: list[BudgetLine]) -> Response:
    """A CSV file of budgets. It can be a source of budgets as it is."""
    heading, shown = as_of_column(day)
    file = f"{name}-{day.day}.csv" if day else f"{name}.csv"
    return csv_response(file, (*HEADER, heading), ((*_row(line), shown) for line in lines))


def _states(day: PastDay | None) -> list[str]:
    """The states to choose from. Deleted budgets are known only today."""
    return [state for state in BUDGET_STATES if not (day and state == "deleted")]


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
    """One budget, of today or as of a past day."""
    who = viewer()
    actor, customer = who.actor, who.customer
    if day := chosen_day():
        then = line_at(actor, customer.id, day, argument("id"))
        label = formats.balance_label(then.name, then.balance)
        return page("budget_as_of.html", line=then, day=day, bar=charts.bar(then.balance, label))
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
    found = budget_forecast(actor, customer, line)
    return page(
        "budget.html",
        line=line,
        forecast=found if isinstance(found, Forecast) else None,
        no_forecast=None if isinstance(found, Forecast) else found.value,
        bar=charts.bar(line.balance, formats.balance_label(line.name, line.balance)),
        burn=_burn(line, burn_down(actor, customer.id, line), customer, found),
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


def _burn(
    line: BudgetLine, points: list[Point], customer: Customer, found: Forecast | NoForecast
) -> dict[str, object] | None:
    """The burn-down chart and its texts, in the customer's time zone; None without any points."""
    if not points:
        return None
    zone, now, balance = ZoneInfo(customer.timeZone), clock.now(), line.balance
    period = _midnights(line.period_key, customer)
    if period and points[0].at >= period[1]:
        period = None
    start, end = _span(points, period, now)
    summary = _summary(line)
    expected = None
    if period and isinstance(found, Forecast):
        summary = f"{summary} {forecast_text(found, line.balance, period[1], zone)}"
        amounts = (found.amount_minor, found.high_minor, found.low_minor)
        expected = charts.Expected(
            period[1], *(balance.budgeted_minor - minor for minor in amounts)
        )
    chart = charts.burn_down(
        points,
        start,
        end,
        now,
        summary,
        pace=charts.Pace(*period, balance.budgeted_minor) if period else None,
        expected=expected,
    )
    return {
        "chart": chart.svg,
        "axis": [
            formats.money_axis(minor, balance.currency, balance.exponent) for minor in chart.ticks
        ],
        "has_pace": period is not None,
        "has_forecast": expected is not None,
        "has_today": start < now < end,
        "start": formats.day(start, zone),
        "end": formats.day(end - timedelta(seconds=1), zone),
        "summary": summary,
    }


def _summary(line: BudgetLine) -> str:
    balance = line.balance
    used, budgeted, left = (
        formats.balance_money(balance, minor)
        for minor in (balance.used_minor, balance.budgeted_minor, abs(balance.available_minor))
    )
    rest = f"it is overdrawn by {left}" if balance.available_minor < 0 else f"{left} is left"
    return f"{used} of {budgeted} is used; {rest}."


def forecast_text(found: Forecast, balance: Balance, end: datetime, zone: ZoneInfo) -> str:
    """A forecast as sentences. `end` is the moment at which the period ends."""
    amount, low, high, left = (
        formats.balance_money(balance, minor)
        for minor in (
            found.amount_minor,
            found.low_minor,
            found.high_minor,
            abs(balance.budgeted_minor - found.amount_minor),
        )
    )
    day = formats.day(end - timedelta(seconds=1), zone)
    rest = f"{left} over budget" if found.over_minor else f"{left} will be left"
    between = f" (between {low} and {high})" if low != high else ""
    return f"Forecast: {amount}{between} will be used by {day}, {rest}."


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
