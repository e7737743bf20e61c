"""The approvals of the model of the ledger."""

from __future__ import annotations

from stress.ledger_model import LedgerModel
from stress.ledger_model_rows import DONE, REPLAYED, Hold


def approve(model: LedgerModel, budget_id: str, request: str) -> str:
    """Approve the open hold of a request on a budget, if it waits for that."""
    hold = model.hold_of(budget_id, request)
    if hold is None or not hold.held:
        return "NO_OPEN_RESERVATION"
    if not _waits(model, budget_id, request, hold):
        return REPLAYED if hold.approved else "REQUEST_CONFLICT"
    budget = model.budgets[budget_id]
    budget.version += 1
    hold.version, hold.last = budget.version, ()
    hold.approved = (hold.held + hold.committed, model.checks[request][-1].number)
    return DONE


def _waits(model: LedgerModel, budget_id: str, request: str, hold: Hold) -> bool:
    """Whether the latest check on the budget, or else of the request, requires an approval."""
    checks = model.checks.get(request, [])
    on_budget = [check for check in checks if check.budget_id == budget_id]
    if not checks:
        return False
    latest = (on_budget or checks)[-1]
    if latest.code != "REQUIRES_APPROVAL":
        return False
    if hold.approved is None:
        return True
    amount, number = hold.approved
    exceeds = hold.held + hold.committed > amount
    return exceeds and (latest.number > number or latest.amount > amount)
