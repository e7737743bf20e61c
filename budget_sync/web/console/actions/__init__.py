"""Actions on a request or a budget, one module each.

Each has a page with the amounts before and after, asks for a reason, and runs one verb of the
ledger. `effects` has the amounts, `form` what all pages share, `budget_choice` the list of budgets
to choose from.
"""

from budget_sync.web.console.actions import (  # noqa: F401  # importing registers views
    amend,
    approve,
    approve_reservation,
    commit,
    decline,
    extend,
    move,
    release,
    reverse,
    spend,
)
