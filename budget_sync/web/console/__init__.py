"""The console: pages for people. Each view names the viewer, parses, calls one verb or report, and renders.

`frame` has what all pages share: who is looking, error pages, headers. The other modules are one area each.
"""

from budget_sync.web.console import audit, budgets, deeds, home, keys, requests, session, sync, team
from budget_sync.web.console.frame import console, init_app

__all__ = ["audit", "budgets", "console", "deeds", "home", "init_app", "keys", "requests", "session", "sync", "team"]
