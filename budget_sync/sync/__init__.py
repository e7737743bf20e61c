"""The sheet sync: the rows of a source become budgets, and a broken source never changes budgets.

A run passes through these modules: `run` -> `fetch` (outside any transaction) -> `rows` (reads the
rows) -> `match` (finds the budget of each row) -> `plan` (decides what changes) -> `apply` (writes
the plan and the row of `SyncHistory` in one transaction). `rows`, `cells`, `match`, `plan` and
`summary` are pure.
"""

from budget_sync.sync.cancel import Cancellation
from budget_sync.sync.fetch import fetch_source
from budget_sync.sync.history import SyncRunResult, error_lines, result_line
from budget_sync.sync.isolated import Database
from budget_sync.sync.manage_sources import add_source, list_sources, remove_source
from budget_sync.sync.run import Job, Preview, cron_actor, preview_all, sync_all, sync_source
from budget_sync.sync.source import FetchError, Reach, Source

__all__ = [
    "Cancellation",
    "Database",
    "FetchError",
    "Job",
    "Preview",
    "Reach",
    "Source",
    "SyncRunResult",
    "add_source",
    "cron_actor",
    "error_lines",
    "fetch_source",
    "list_sources",
    "preview_all",
    "remove_source",
    "result_line",
    "sync_all",
    "sync_source",
]
