"""Sync: sources, passes and what they refused, a preview of the next one, running one, and letting held deletions through."""

from __future__ import annotations

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import queries
from budget_sync import sync as sheets
from budget_sync.accounts.authentication import digest
from budget_sync.domain.errors import Code, RequestError
from budget_sync.web.console import formats
from budget_sync.web.console.base import (
    argument,
    console,
    is_sent,
    number,
    page,
    page_number,
    settings,
    status_of,
    typed,
    viewer,
)

#: Seconds that a pass or a preview from a page may take: below gunicorn's and most proxies' time-outs of 60 and more.
DEADLINE_S = 50.0

#: Sources read at once.
WORKERS = 4


@console.get("/sync")
def sync() -> Response:
    """Sources and passes."""
    who = viewer()
    passes, older = queries.sync_runs_page(who.actor, who.customer.id, number("before"))
    return page(
        "sync.html",
        sources=queries.source_lines(who.actor, who.customer.id),
        passes=passes,
        older=older,
        names=_names(),
    )


@console.get("/sync/pass")
def sync_pass() -> Response:
    """One pass, with the rows it refused and how many deletions it held."""
    who = viewer()
    line = queries.sync_pass(who.actor, who.customer.id, argument("id"))
    return page(
        "sync_pass.html",
        line=line,
        errors=queries.row_errors(who.actor, who.customer.id, line.sync_id),
        name=_names().get(line.source_id),
    )


@console.get("/sync/preview")
def sync_preview() -> Response:
    """What a pass over each source would do."""
    previews = list(
        sheets.preview_all(
            _job(), customer_id=viewer().customer.id, deadline_s=DEADLINE_S, workers=WORKERS
        )
    )
    return page("sync_preview.html", previews=previews, names=_names())


@console.post("/sync/run")
def sync_run() -> AnyResponse:
    """Make a pass over every source now."""
    results = list(
        sheets.sync_all(
            _job(), customer_id=viewer().customer.id, deadline_s=DEADLINE_S, workers=WORKERS
        )
    )
    for result in results:
        _flash(result)
    if not results:
        flash("There is no source to read.", "error")
    return redirect(url_for("console.sync"))


@console.route("/sync/held", methods=["GET", "POST"])
def sync_held() -> AnyResponse:
    """Let deletions through that the brake held back: of the budgets that the page counts and lists, whatever the next pass finds."""
    source_id = argument("source")
    if is_sent():
        try:
            _flash(_let_go(source_id, typed("listed")))
        except RequestError as refusal:
            return _held_page(source_id, status_of(refusal), refusal.sentence)
        return redirect(url_for("console.sync"))
    return _held_page(source_id)


def _held_page(source_id: str, status: int = 200, error: str | None = None) -> Response:
    who = viewer()
    ids = queries.held_ids(who.actor, who.customer.id, source_id)
    held = queries.held_budgets(who.actor, who.customer.id, source_id, page_number())
    return page(
        "sync_held.html",
        status,
        source_id=source_id,
        held=held,
        listed=_fingerprint(ids),
        page=page_number(),
        pages=queries.pages(held.total),
        name=_names().get(source_id),
        error=error,
    )


def _let_go(source_id: str, listed: str) -> sheets.SyncRunResult:
    """A pass that may delete the budgets of that list, and no others beyond the brake."""
    who = viewer()
    source = next(
        (each for each in sheets.list_sources(who.actor, who.customer.id) if each.id == source_id),
        None,
    )
    if source is None:
        raise RequestError(Code.NOT_FOUND, "There is no such source.")
    ids = queries.held_ids(who.actor, who.customer.id, source_id)
    if not ids or listed != _fingerprint(ids):
        raise RequestError(
            Code.REQUEST_CONFLICT,
            "What is held back has changed since: look at the list once more, then confirm.",
        )
    return sheets.sync_source(_job(ids), source)


def _fingerprint(budget_ids: list[str]) -> str:
    """What stands for a list of budgets in a form, however long it is."""
    return digest("\n".join(sorted(budget_ids)))


def _names() -> dict[str, str]:
    return queries.source_names(viewer().actor, viewer().customer.id)


def _flash(result: sheets.SyncRunResult) -> None:
    """Say on the next page what became of a pass."""
    counts = {
        "created": result.created_count,
        "updated": result.updated_count,
        "brought back": result.revived_count,
        "deleted": result.soft_deleted_count,
        "unchanged": result.unchanged_count,
        "held back": result.held_count,
        "refused": result.error_count,
    }
    told = (
        ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "Nothing to do"
    )
    if result.status in ("failed", "skipped"):
        told = (result.message or "").rstrip(".")
    name = _names().get(result.source.id, "Source")
    flash(
        f"{name}: {formats.STATUSES[result.status]}. {told}.",
        "error" if result.status == "failed" else "message",
    )


def _job(approved_ids: list[str] | None = None) -> sheets.Job:
    return sheets.Job(
        viewer().actor,
        sheets.Reach.of(settings()),
        settings().instance_folder,
        approved_ids=frozenset(approved_ids or ()),
    )
