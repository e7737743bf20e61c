"""Sync: sources, sync runs with their rejected rows and notes, the preview, running a sync."""

from __future__ import annotations

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import sync as sheets
from budget_sync.queries import sync_runs
from budget_sync.web.console.base import argument, console, number, page, viewer
from budget_sync.web.console.sync_base import (
    DEADLINE_S,
    WORKERS,
    flash_result,
    job,
    slot,
    source_names,
)

#: Lines of a section of a preview that its page shows.
MAX_PREVIEW_LINES = 1_000


@console.get("/sync")
def sync() -> Response:
    """Sources and sync runs."""
    who = viewer()
    runs, older = sync_runs.sync_runs_page(who.actor, who.customer.id, number("before"))
    return page(
        "sync.html",
        sources=sync_runs.source_lines(who.actor, who.customer.id),
        runs=runs,
        older=older,
        names=source_names(),
    )


@console.get("/sync/pass")
def sync_run() -> Response:
    """One sync run, with its rejected rows, its notes and the number of held changes."""
    who = viewer()
    line = sync_runs.sync_run(who.actor, who.customer.id, argument("id"))
    return page(
        "sync_run.html",
        line=line,
        details=sync_runs.run_details(who.actor, who.customer.id, line.sync_id),
        name=source_names().get(line.source_id),
    )


@console.get("/sync/preview")
def sync_preview() -> Response:
    """The changes that a sync run would apply now, for each source."""
    with slot():
        previews = list(
            sheets.preview_all(
                job(), customer_id=viewer().customer.id, deadline_s=DEADLINE_S, workers=WORKERS
            )
        )
        # In the slot as well, because the page of a large sheet takes long to render.
        return page(
            "sync_preview.html",
            previews=previews,
            names=source_names(),
            max_lines=MAX_PREVIEW_LINES,
        )


@console.post("/sync/run")
def run_sync() -> AnyResponse:
    """Sync every source now."""
    with slot():
        results = list(
            sheets.sync_all(
                job(), customer_id=viewer().customer.id, deadline_s=DEADLINE_S, workers=WORKERS
            )
        )
    for result in results:
        flash_result(result)
    if not results:
        flash("There is no source to sync.", "error")
    return redirect(url_for("console.sync"))
