"""Read-only: what the console's pages list, paged in the database. A module a subject; all of it is for one customer and one caller."""

from budget_sync.queries.accounts import customers, key, keys_page, people_page, person
from budget_sync.queries.audit import AuditLine, AuditQuery, audit_export, audit_page, budget_history
from budget_sync.queries.budgets import BUDGET_ORDERS, BUDGET_STATES, BudgetLine, BudgetQuery, Point, budget_line, budgets_export, budgets_page, burn_down
from budget_sync.queries.paging import pages
from budget_sync.queries.requests import CheckLine, RequestQuery, ReservationLine, Story, request_story, reservations_page, uncovered_page
from budget_sync.queries.sync_runs import Held, PassLine, SourceLine, held_budgets, held_ids, passes_page, row_errors, source_lines, source_names, sync_pass

__all__ = [
    "BUDGET_ORDERS",
    "BUDGET_STATES",
    "AuditLine",
    "AuditQuery",
    "BudgetLine",
    "BudgetQuery",
    "CheckLine",
    "Held",
    "PassLine",
    "Point",
    "RequestQuery",
    "ReservationLine",
    "SourceLine",
    "Story",
    "audit_export",
    "audit_page",
    "budget_history",
    "budget_line",
    "budgets_export",
    "budgets_page",
    "burn_down",
    "customers",
    "held_budgets",
    "held_ids",
    "key",
    "keys_page",
    "pages",
    "passes_page",
    "people_page",
    "person",
    "request_story",
    "reservations_page",
    "row_errors",
    "source_lines",
    "source_names",
    "sync_pass",
    "uncovered_page",
]
