"""The search for anything, from the box at the top of each page."""

from __future__ import annotations

from flask import Response, url_for

from budget_sync.queries.search import LOOKED_AT, Cursor, search
from budget_sync.web.console.base import argument, console, page, viewer


@console.get("/search")
def find() -> Response:
    """The budgets, requests and spends with a text."""
    who, text = viewer(), argument("q", 200).strip()
    before = Cursor.parse(argument("before"))
    found = search(who.actor, who.customer.id, text, before)
    return page(
        "search.html",
        text=text,
        found=found,
        is_first=before is None,
        looked_at=LOOKED_AT,
        older=found.rest and url_for("console.find", q=text, before=str(found.rest)),
    )
