"""A page to choose one of a customer's budgets. It works without JavaScript, with any number."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response

from budget_sync.queries.budgets import BudgetLine, BudgetQuery, budgets_page
from budget_sync.queries.overview import periods
from budget_sync.queries.paging import pages
from budget_sync.web.console.base import argument, page, page_number, viewer


def choose_budget(
    *,
    title: str,
    text: str,
    link_of: Callable[[BudgetLine], str],
    target_of: BudgetLine | None = None,
    request_id: str | None = None,
) -> Response:
    """A page of the live budgets, found by text and period; each links to `link_of`.

    With `target_of`, only the budgets to which money of that budget can move.
    """
    who = viewer()
    actor, customer_id = who.actor, who.customer.id
    query = BudgetQuery(
        text=argument("q"),
        period_key=argument("period"),
        page=page_number(),
        target_of=target_of,
    )
    lines, total = budgets_page(actor, customer_id, query)
    return page(
        "choose_budget.html",
        title=title,
        text=text,
        query=query,
        lines=[(line, link_of(line)) for line in lines],
        pages=pages(total),
        periods=periods(actor, customer_id),
        request_id=request_id,
    )
