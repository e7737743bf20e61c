"""The sheet sync: the rows of a source become budgets, and a broken source never changes budgets.

A run passes through these modules: `run` -> `prepare` -> `fetch` (outside any transaction) ->
`reading.apply` (reads the sheet as a person has confirmed) -> `match` (finds the budget of each
row) -> `plan` (decides what changes, and holds what looks like a mistake) -> `write` (writes the
plan and the row of `SyncHistory`). `reading`, `match`, `plan`, `holds` and `summary` are pure.

`propose` finds out how a new sheet is read, and asks what the sheet does not say.
"""

from budget_sync.sync.answer_holds import Choice, HeldChange, answer_holds, choose, show_holds
from budget_sync.sync.cancel import Cancellation
from budget_sync.sync.every_source import preview_all, skip_all, sync_all
from budget_sync.sync.expiry import ExpiryResult, expire_before_sync
from budget_sync.sync.fetch import fetch_source
from budget_sync.sync.history import SyncRunResult, error_lines, note_lines, result_line
from budget_sync.sync.isolated import Database
from budget_sync.sync.job import Job, cron_actor
from budget_sync.sync.manage_sources import (
    add_source,
    get_source,
    list_sources,
    remove_source,
    require_unused,
    store_reading,
)
from budget_sync.sync.prepare import UNCONFIRMED, reading_customer
from budget_sync.sync.preview import Preview, preview_source
from budget_sync.sync.run import sync_source
from budget_sync.sync.source import FetchError, Reach, Source, Target
from budget_sync.sync.uploads import with_file

__all__ = [
    "UNCONFIRMED",
    "Cancellation",
    "Choice",
    "Database",
    "ExpiryResult",
    "FetchError",
    "HeldChange",
    "Job",
    "Preview",
    "Reach",
    "Source",
    "SyncRunResult",
    "Target",
    "add_source",
    "answer_holds",
    "choose",
    "cron_actor",
    "error_lines",
    "expire_before_sync",
    "fetch_source",
    "get_source",
    "list_sources",
    "note_lines",
    "preview_all",
    "preview_source",
    "reading_customer",
    "remove_source",
    "require_unused",
    "result_line",
    "show_holds",
    "skip_all",
    "store_reading",
    "sync_all",
    "sync_source",
    "with_file",
]
