"""Sync: sources, sync runs and their rejected rows, the preview, running a sync, held deletions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync import database
from budget_sync import sync as sheets
from budget_sync.accounts.authentication import digest
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, require
from budget_sync.queries import sync_runs
from budget_sync.queries.paging import pages
from budget_sync.runtime.slots import try_slot
from budget_sync.web.console import formats
from budget_sync.web.console.base import (
    argument,
    console,
    is_sent,
    number,
    page,
    page_number,
    settings,
    typed,
    viewer,
)
from budget_sync.web.console.errors import status_of

#: How long a sync run or preview from a page may take, in seconds. Below the timeout of gunicorn
#: and of most proxies, which is 60 or more.
DEADLINE_S = 50.0

#: Sources read at the same time.
WORKERS = 4

#: Previews and sync runs started from pages that run at once on this machine: of one customer, and
#: in all. Each occupies a thread for as long as its sheets take.
RUNS_PER_CUSTOMER = 2
RUNS_IN_ALL = 4

#: Lines of a section of a preview that its page shows.
MAX_PREVIEW_LINES = 1_000

#: The Retry-After of a preview or sync run that is rejected because of these limits, in seconds.
RETRY_AFTER_S = 10


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
        names=_names(),
    )


@console.get("/sync/pass")
def sync_run() -> Response:
    """One sync run, with its rejected rows and the number of held deletions."""
    who = viewer()
    line = sync_runs.sync_run(who.actor, who.customer.id, argument("id"))
    return page(
        "sync_run.html",
        line=line,
        errors=sync_runs.row_errors(who.actor, who.customer.id, line.sync_id),
        name=_names().get(line.source_id),
    )


@console.get("/sync/preview")
def sync_preview() -> Response:
    """The changes that a sync run would apply now, for each source."""
    with _slot():
        previews = list(
            sheets.preview_all(
                _job(), customer_id=viewer().customer.id, deadline_s=DEADLINE_S, workers=WORKERS
            )
        )
        # In the slot as well, because the page of a large sheet takes long to render.
        return page(
            "sync_preview.html", previews=previews, names=_names(), max_lines=MAX_PREVIEW_LINES
        )


@console.post("/sync/run")
def run_sync() -> AnyResponse:
    """Sync every source now."""
    with _slot():
        results = list(
            sheets.sync_all(
                _job(), customer_id=viewer().customer.id, deadline_s=DEADLINE_S, workers=WORKERS
            )
        )
    for result in results:
        _flash(result)
    if not results:
        flash("There is no source to sync.", "error")
    return redirect(url_for("console.sync"))


@console.route("/sync/held", methods=["GET", "POST"])
def sync_held() -> AnyResponse:
    """List and approve the deletions that the deletion limit held back.

    The approval covers only the budgets on the list, even if the next sync run finds more missing.
    """
    source_id = argument("source")
    if is_sent():
        with _slot():
            try:
                result = _sync_with_approved_deletions(source_id, typed("listed"))
            except RequestError as error:
                return _held_page(source_id, status_of(error), error.sentence)
        _flash(result)
        return redirect(url_for("console.sync"))
    return _held_page(source_id)


def _held_page(source_id: str, status: int = 200, error: str | None = None) -> Response:
    who = viewer()
    ids = sync_runs.held_ids(who.actor, who.customer.id, source_id)
    held = sync_runs.held_budgets(who.actor, who.customer.id, source_id, page_number())
    return page(
        "sync_held.html",
        status,
        source_id=source_id,
        held=held,
        listed=_fingerprint(ids),
        page=page_number(),
        pages=pages(held.total),
        name=_names().get(source_id),
        error=error,
    )


def _sync_with_approved_deletions(source_id: str, listed: str) -> sheets.SyncRunResult:
    """Sync a source; budgets of the list may be deleted beyond the deletion limit.

    `listed` is the fingerprint of the list that the viewer saw. Raises RequestError NOT_FOUND, or
    REQUEST_CONFLICT if the list has changed.
    """
    who = viewer()
    sources = sheets.list_sources(who.actor, who.customer.id)
    source = next((each for each in sources if each.id == source_id), None)
    if source is None:
        raise RequestError(Code.NOT_FOUND, "There is no such source.")
    ids = sync_runs.held_ids(who.actor, who.customer.id, source_id)
    if not ids or listed != _fingerprint(ids):
        raise RequestError(
            Code.REQUEST_CONFLICT,
            "The held deletions have changed. Check the list below, then confirm again.",
        )
    result = sheets.sync_source(_job(ids), source)
    database.open_connection()
    return result


def _fingerprint(budget_ids: list[str]) -> str:
    """A digest of the list of budgets, for a hidden field of the form."""
    return digest("\n".join(sorted(budget_ids)))


@contextmanager
def _slot() -> Iterator[None]:
    """Run a preview or sync run in one of the slots.

    Raises RequestError FORBIDDEN, or TOO_MANY_ATTEMPTS if no slot is free.
    """
    who, folder = viewer(), settings().instance_folder
    require(who.actor, Action.MANAGE_SOURCES)
    with try_slot(folder, f"console-sync-of-{who.customer.id}", RUNS_PER_CUSTOMER) as is_free:
        if not is_free:
            raise _too_many(f"{RUNS_PER_CUSTOMER} previews or sync runs of this customer")
        with try_slot(folder, "console-sync", RUNS_IN_ALL) as is_free_in_all:
            if not is_free_in_all:
                raise _too_many("Several previews or sync runs of other customers")
            yield


def _too_many(running: str) -> RequestError:
    return RequestError(
        Code.TOO_MANY_ATTEMPTS,
        f"{running} are in progress. Nothing was changed. Wait until one of them has finished, "
        "then try again.",
        retryAfter=RETRY_AFTER_S,
    )


def _names() -> dict[str, str]:
    return sync_runs.source_names(viewer().actor, viewer().customer.id)


def _flash(result: sheets.SyncRunResult) -> None:
    """Show the result of a sync run on the next page."""
    if result.status in ("failed", "skipped"):
        outcome = (result.message or "").rstrip(".")
    else:
        counts = {
            "created": result.created_count,
            "updated": result.updated_count,
            "revived": result.revived_count,
            "deleted": result.soft_deleted_count,
            "unchanged": result.unchanged_count,
            "held back": result.held_count,
            "rejected": result.error_count,
        }
        listed = [f"{count:,} {what}" for what, count in counts.items() if count]
        outcome = ", ".join(listed) or "Nothing to do"
    name = _names().get(result.source.id, "Source")
    flash(
        f"{name}: {formats.STATUSES[result.status]}. {outcome}.",
        "error" if result.status == "failed" else "message",
    )


def _job(approved_ids: list[str] | None = None) -> sheets.Job:
    return sheets.Job(
        viewer().actor,
        sheets.Reach.of(settings()),
        settings().instance_folder,
        approved_ids=frozenset(approved_ids or ()),
        child_database=sheets.Database.of(settings()),
    )
