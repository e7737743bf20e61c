"""The list of money that was spent without a reservation."""

from __future__ import annotations

from typing import Any

from budget_sync.database.models import Budget, Spend
from budget_sync.domain.permissions import Action, Actor, require_any_for
from budget_sync.queries import paging, timeline
from budget_sync.queries.request_query import (
    RequestQuery,
    RequestTotals,
    boundary,
    days_ago,
    filtered,
    has_text,
    newest,
    sorted_page,
    totals,
)
from budget_sync.queries.timeline import SpendLine

#: The columns by which the list can be sorted.
SPEND_ORDERS: dict[str, Any] = {
    "request": Spend.spendId,
    "vendor": Spend.vendor,
    "budget": Budget.departmentKey,
    "reason": Spend.reason,
    "amount": Spend.amountMinor,
    "age": Spend.spentOn,
}


def spends_page(
    actor: Actor, customer_id: str, query: RequestQuery, size: int | None = None
) -> tuple[list[SpendLine], int | None]:
    """A page of the money spent without a reservation, newest first, and `after` for the next page.

    `after` is the `seq` of the last row of the previous page. Raises RequestError FORBIDDEN for
    ordinary users, who read only their own requests.
    """
    rows, size = _spends(actor, customer_id, query), size or paging.PAGE_SIZE
    if query.sort:
        rows = newest(rows, Spend, customer_id)
        rows = sorted_page(rows, SPEND_ORDERS, query, size, Spend.seq)
    else:
        # This order uses the primary key, backwards.
        if query.after is not None:
            rows = rows.where(Spend.seq < query.after)
        rows = rows.order_by(Spend.seq.desc()).limit(size + 1)
    lines, last_line = paging.cut([SpendLine(*row) for row in rows], size)
    return lines, last_line and last_line.seq


def spends_total(actor: Actor, customer_id: str, query: RequestQuery) -> RequestTotals:
    """The totals of the spends that match among the newest LOOKED_AT.

    Raises RequestError as `spends_page`.
    """
    rows = newest(_spends(actor, customer_id, query), Spend, customer_id)
    amounts = (Spend.amountMinor - Spend.reversedMinor,)
    lines = totals(rows, Budget.currency, Spend.currencyExponent, amounts)
    return RequestTotals(lines, boundary(Spend, customer_id) is not None)


def _spends(actor: Actor, customer_id: str, query: RequestQuery) -> Any:
    """The spends that match, in no order."""
    require_any_for(actor, Action.READ_REQUESTS, customer_id)
    rows = timeline.spends().where(paging.unindexed(Spend.customerId) == customer_id)
    texts = (Spend.spendId, Spend.vendor, Spend.reason, Spend.externalRef)
    rows = filtered(rows, Spend.budgetId, texts, customer_id, query)
    if query.older_than_days is not None:
        rows = rows.where(Spend.spentOn < days_ago(query.older_than_days).date())
    if query.person:
        rows = rows.where(has_text(query.person, (Spend.recordedBy,)))
    return rows.where(has_text(query.vendor, (Spend.vendor,))) if query.vendor else rows
