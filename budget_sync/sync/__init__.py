"""The sheet sync: a source's rows become a customer's budgets, and a broken source changes nothing that it should not.

A row's way: `run` → `sources` (fetch, no transaction open) → `rows` (what the rows say) → `match` (which budgets they mean)
→ `plan` (what that would change) → `store` (one transaction, with the pass's row of `SyncHistory`). `rows`, `amounts`, `match`,
`plan` and `page` are pure.
"""

from budget_sync.sync.cancel import Stop
from budget_sync.sync.fetch import fetch_source
from budget_sync.sync.history import SyncRunResult, error_lines, result_line
from budget_sync.sync.manage_sources import add_source, list_sources, remove_source
from budget_sync.sync.run import Job, Preview, cron_actor, preview_all, sync_all, sync_source
from budget_sync.sync.source import FetchFailed, Reach, Source

__all__ = [
    "FetchFailed",
    "Job",
    "Preview",
    "Reach",
    "Source",
    "Stop",
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
