"""The overview: the inbox, the balance of every department, and recent decisions."""

from __future__ import annotations

from flask import Response, url_for

from budget_sync.queries import overview
from budget_sync.queries.as_of import PastDay
from budget_sync.queries.departments import DEPARTMENTS_A_PAGE
from budget_sync.queries.inbox import inbox
from budget_sync.queries.overview import Day
from budget_sync.queries.overview_at import overview_at
from budget_sync.web import charts
from budget_sync.web.console import formats
from budget_sync.web.console.as_of import chosen_day
from budget_sync.web.console.base import argument, console, page, page_number, viewer
from budget_sync.web.console.requests import may_overspend


@console.get("/")
def home() -> Response:
    """The overview of the current period, of another one, or of all; of today or a past day."""
    who = viewer()
    if day := chosen_day():
        return _home_at(day)
    found = overview.overview(who.actor, who.customer, argument("period"), page_number())
    limit_x = charts.limit_position(line.balance for line in found.departments)
    return page(
        "overview.html",
        found=found,
        inbox=inbox(who.actor, who.customer),
        may_overspend=may_overspend,
        period_key=found.period.key if found.period else "",
        all_periods=overview.ALL_PERIODS,
        departments=[
            (
                line,
                charts.bar(line.balance, formats.balance_label(line.name, line.balance), limit_x),
            )
            for line in found.departments
        ],
        page=page_number(),
        pages=max(1, -(-found.department_count // DEPARTMENTS_A_PAGE)),
        decisions=_decisions(found.days) if found.days else None,
    )


def _home_at(day: PastDay) -> Response:
    """The totals and departments as of a past day."""
    who = viewer()
    found = overview_at(who.actor, who.customer, day, argument("period"))
    limit_x = charts.limit_position(line.balance for line in found.departments)
    return page(
        "overview_as_of.html",
        found=found,
        day=day,
        period_key=found.period.key if found.period else "",
        all_periods=overview.ALL_PERIODS,
        departments=[
            (
                line,
                charts.bar(line.balance, formats.balance_label(line.name, line.balance), limit_x),
            )
            for line in found.departments
        ],
    )


def _decisions(days: list[Day]) -> dict[str, object]:
    """The chart of decisions, with its totals and its table."""
    total = sum(day.total for day in days)
    auto = sum(day.auto_approved for day in days)
    labels = [f"{day.day.day} {day.day:%b}" for day in days]
    share = formats.percent(100 * auto / total if total else 0.0)
    summary = (
        f"{formats.count(total, 'check')}, {share} of them auto-approved. See the table below."
    )
    return {
        "total": total,
        "auto": auto,
        "manual": sum(day.needs_approval for day in days),
        "not_covered": sum(day.not_covered for day in days),
        "share": share,
        "days": len(days),
        "chart": charts.decisions(days, labels, summary, _address),
        "first": labels[0],
        "last": labels[-1],
        "rows": [(label, day) for label, day in zip(labels, days, strict=True) if day.total],
    }


def _address(day: Day, decision: str) -> str:
    """The page with the checks of a day that had a decision."""
    return url_for("console.checks", day=day.day.isoformat(), decision=decision)
