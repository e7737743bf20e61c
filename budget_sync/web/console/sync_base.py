"""Shared by the pages of the sync: its slots, its job, its sources, and the results it shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from flask import flash

from budget_sync import sync as sheets
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, require
from budget_sync.queries import sync_runs
from budget_sync.runtime.slots import try_slot
from budget_sync.sync.reading.result import Customer as SheetCustomer
from budget_sync.sync.sheet_names import SheetName
from budget_sync.web.console import formats
from budget_sync.web.console.base import settings, viewer

#: How long a sync run or preview from a page may take, in seconds. Below the timeout of gunicorn
#: and of most proxies, which is 60 or more.
DEADLINE_S = 50.0

#: Sources read at the same time.
WORKERS = 4

#: Previews and sync runs started from pages that run at once on this machine: of one customer, and
#: in all. Each occupies a thread for as long as its sheets take.
RUNS_PER_CUSTOMER = 2
RUNS_IN_ALL = 4

#: The Retry-After of a preview or sync run that is rejected because of these limits, in seconds.
RETRY_AFTER_S = 10


@contextmanager
def slot() -> Iterator[None]:
    """Run work on a sheet, a preview or a sync run in one of the slots.

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


def job() -> sheets.Job:
    """How this page runs syncs."""
    return sheets.Job(
        viewer().actor,
        sheets.Reach.of(settings()),
        settings().instance_folder,
        child_database=sheets.Database.of(settings()),
    )


def find_source(source_id: str) -> sheets.Source:
    """A source of the viewer's customer. Raises RequestError FORBIDDEN or NOT_FOUND."""
    who = viewer()
    found = sheets.list_sources(who.actor, who.customer.id)
    source = next((each for each in found if each.id == source_id), None)
    if source is None:
        raise RequestError(Code.NOT_FOUND, "There is no such source.")
    return source


def source_names() -> dict[str, SheetName]:
    """The names of the customer's sources, by id."""
    return sync_runs.source_names(viewer().actor, viewer().customer.id)


def flash_result(result: sheets.SyncRunResult) -> None:
    """Show the result of a sync run on the next page."""
    if result.status in ("failed", "skipped"):
        outcome = formats.in_console(result.message or "").rstrip(".")
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
    name = source_names().get(result.source.id)
    flash(
        f"{name.text if name else 'Source'}: {formats.STATUSES[result.status]}. {outcome}.",
        "error" if result.status == "failed" else "message",
    )


#: The names of fields of an error in the texts of pages.
_FIELDS = {
    "file": "The file",
    "spreadsheet": "The address",
    "worksheet": "The tab",
    "source": "A source of this sheet",
}


def sentence_of(error: RequestError) -> str:
    """An error's sentence for the page of its form."""
    if not error.fields:
        return error.sentence
    return " ".join(
        f"{_FIELDS.get(name, name)} {problem.rstrip('.')}."
        for name, problem in error.fields.items()
    )


def reach() -> sheets.Reach:
    """How this page reaches sheets."""
    return replace(sheets.Reach.of(settings()), deadline_s=DEADLINE_S)


def customer_of_sheets() -> SheetCustomer:
    """The part of the viewer's customer that the reading of a sheet depends on."""
    return sheets.reading_customer(viewer().customer)
