"""Budgets with their balances, as the other modules load and lock them."""

from __future__ import annotations

from typing import Any, NamedTuple

from budget_sync.database import locked
from budget_sync.database.models import Budget, BudgetUtilization
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor


class BudgetFigures(NamedTuple):
    """A budget and its balance."""

    budget: Budget
    balance: Balance


def lock(actor: Actor, budget_id: str) -> BudgetFigures:
    """Lock a budget of a customer that the caller serves. Raises RequestError BUDGET_NOT_FOUND."""
    budget = locked(_with_utilization().where(Budget.id == budget_id)).first()
    if budget is None or not actor.serves(budget.customerId):
        raise RequestError(
            Code.BUDGET_NOT_FOUND,
            f"There is no budget {budget_id!r}; see list-budgets.",
            budgetId=budget_id,
        )
    return figures(budget)


def _with_utilization() -> Any:
    return Budget.select().join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))


def figures(budget: Budget) -> BudgetFigures:
    """A budget with its balance."""
    used = BudgetUtilization.get_by_id(budget.id)
    return BudgetFigures(
        budget,
        Balance(
            budget.currency,
            budget.currencyExponent,
            budget.budgetedMinor,
            used.reservedMinor,
            used.committedMinor,
        ),
    )


def rejected(budget: Budget, problem: str) -> RequestError:
    """The error INVALID_REQUEST for a budget; `problem` follows its name."""
    name = f"Budget {budget.id} ({budget.department}, {budget.fiscalPeriod})"
    return RequestError(Code.INVALID_REQUEST, f"{name} {problem}", budgetId=budget.id)


def require_no_source(budget: Budget, advice: str) -> None:
    """Raises RequestError INVALID_REQUEST if a source owns the budget."""
    if budget.sourceId is not None:
        raise rejected(budget, f"belongs to source {budget.sourceId}. {advice}")


def next_version(budget_id: str) -> int:
    """Count a change of a locked budget; returns its new version."""
    BudgetUtilization.update(version=BudgetUtilization.version + 1).where(
        BudgetUtilization.budgetId == budget_id
    ).execute()
    version: int = BudgetUtilization.get_by_id(budget_id).version
    return version
