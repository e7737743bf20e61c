"""The checks of one day, by their decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from budget_sync.database.models import BudgetCheckLog, Customer
from budget_sync.domain.errors import Code
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import paging, timeline
from budget_sync.queries.timeline import CheckLine

#: Rows per query of an export.
EXPORT_CHUNK = 1000

#: The decisions by which checks are counted, as in the chart of the overview.
DECISIONS = {
    "auto": (Code.AUTO_APPROVED,),
    "manual": (Code.REQUIRES_APPROVAL,),
    "denied": (Code.INSUFFICIENT_BUDGET, Code.NO_BUDGET),
}


@dataclass(frozen=True, slots=True)
class CheckQuery:
    """The checks of a day in the customer's time zone, with one of DECISIONS or all.

    Only checks older than id `before`, if given.
    """

    day: date
    decision: str = ""
    before: int | None = None


def checks_page(
    actor: Actor, customer: Customer, query: CheckQuery, size: int | None = None
) -> tuple[list[CheckLine], int | None]:
    """A page of the day's checks, newest first, and `before` for the next page.

    Raises RequestError FORBIDDEN, as the overview hides its chart.
    """
    require_for(actor, Action.READ_AUDIT, customer.id)
    size, zone = size or paging.PAGE_SIZE, ZoneInfo(customer.timeZone)
    # A day in the customer's time zone may have 23 or 25 hours.
    begin, end = (
        datetime(each.year, each.month, each.day, tzinfo=zone)
        for each in (query.day, query.day + timedelta(days=1))
    )
    # This uses the index of times, so that only the day is read.
    rows: Any = timeline.checks().where(
        paging.unindexed(BudgetCheckLog.customerId) == customer.id,
        BudgetCheckLog.timestamp >= begin,
        BudgetCheckLog.timestamp < end,
    )
    if query.decision:
        rows = rows.where(
            BudgetCheckLog.code.in_([str(code) for code in DECISIONS[query.decision]])
        )
    if query.before is not None:
        rows = rows.where(paging.unindexed_number(BudgetCheckLog.id) < query.before)
    found = [
        CheckLine(*row)
        for row in rows.order_by(paging.unindexed_number(BudgetCheckLog.id).desc()).limit(size + 1)
    ]
    lines, last = paging.cut(found, size)
    return lines, last and last.id


def checks_export(actor: Actor, customer: Customer, query: CheckQuery) -> Iterator[CheckLine]:
    """All checks that match, read in chunks while the caller iterates."""
    require_for(actor, Action.READ_AUDIT, customer.id)

    def read() -> Iterator[CheckLine]:
        rest = query
        while True:
            lines, before = checks_page(actor, customer, rest, EXPORT_CHUNK)
            yield from lines
            if before is None:
                return
            rest = replace(rest, before=before)

    return read()
