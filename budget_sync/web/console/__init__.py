"""The console: pages for people. Each view names the viewer, parses, calls one verb or report, and renders.

`frame` has what all pages share: who is looking, error pages, headers. The other modules are one area each.
"""

from budget_sync.web.console import (
    actions,
    audit,
    budgets,
    keys,
    overview,
    requests,
    session,
    sync,
    team,
)
from budget_sync.web.console.base import console, init_app

__all__ = [
    "actions",
    "audit",
    "budgets",
    "console",
    "init_app",
    "keys",
    "overview",
    "requests",
    "session",
    "sync",
    "team",
]
