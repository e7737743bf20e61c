"""Removes and revives a budget that has no source."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from budget_sync.accounts.customers import locked_customer
from budget_sync.database import audit_log, transact
from budget_sync.database.models import Budget
from budget_sync.domain import clock
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.manual_budgets.figures import (
    BudgetFigures,
    figures,
    lock,
    next_version,
    rejected,
    require_no_source,
)
from budget_sync.manual_budgets.values import read_period, require_reason


def remove_budget(actor: Actor, budget_id: str, *, reason: str | None = None) -> BudgetFigures:
    """Soft-delete a budget without a source, as a sync run does for a row that is gone.

    The budget takes no new reservations. Its open reservations can be committed and released.
    Raises RequestError BUDGET_NOT_FOUND, or INVALID_REQUEST if the budget has a source or was
    removed before.
    """
    require(actor, Action.MANAGE_BUDGETS)
    require_reason(reason)

    def work() -> BudgetFigures:
        found = lock(actor, budget_id)
        budget = found.budget
        require_no_source(budget, "Remove its row from the sheet instead.")
        if budget.deletedAt is not None:
            raise rejected(
                budget, f"was removed at {clock.to_text(budget.deletedAt)}. Nothing is left to do."
            )
        budget.deletedAt = budget.updatedAt = clock.now()
        budget.save(only=[Budget.deletedAt, Budget.updatedAt])
        audit_log.record(
            actor,
            "SOFT_DELETE",
            customer_id=budget.customerId,
            budget_id=budget_id,
            version=next_version(budget_id),
            balance=found.balance,
            field="deletedAt",
            newValue=clock.to_text(budget.deletedAt),
            reason=reason or "Removed by hand",
        )
        return found

    return transact(work)


def restore_budget(actor: Actor, budget_id: str, *, reason: str | None = None) -> BudgetFigures:
    """Revive a budget that was removed, with all that is reserved and committed on it.

    Raises RequestError BUDGET_NOT_FOUND, or INVALID_REQUEST if the budget has a source, is live, or
    may not be revived (see `_require_revivable`).
    """
    require(actor, Action.MANAGE_BUDGETS)
    require_reason(reason)

    def work() -> BudgetFigures:
        found = lock(actor, budget_id)
        budget = found.budget
        require_no_source(budget, "Put its row back into the sheet instead.")
        if budget.deletedAt is None:
            raise rejected(budget, "was not removed. Nothing is left to do.")
        # As in a sync run, a revived budget gets the keys of today's program.
        budget.departmentKey = fold(budget.department)
        period = read_period(locked_customer(budget.customerId), budget.fiscalPeriod)
        budget.periodKey = period.key or budget.periodKey
        _require_revivable(budget, budget.deletedAt, _same_key(budget))
        removed_at = clock.to_text(budget.deletedAt)
        budget.deletedAt, budget.updatedAt = None, clock.now()
        budget.save(
            only=[Budget.departmentKey, Budget.periodKey, Budget.deletedAt, Budget.updatedAt]
        )
        audit_log.record(
            actor,
            "REVIVE",
            customer_id=budget.customerId,
            budget_id=budget_id,
            version=next_version(budget_id),
            balance=found.balance,
            field="deletedAt",
            oldValue=removed_at,
            reason=reason or "Revived by hand",
        )
        return found

    return transact(work)


def _same_key(budget: Budget) -> list[BudgetFigures]:
    """The customer's other budgets with the same department and period, deleted ones included."""
    others = Budget.select().where(
        (Budget.customerId == budget.customerId)
        & (Budget.departmentKey == budget.departmentKey)
        & (Budget.periodKey == budget.periodKey)
        & (Budget.id != budget.id)
    )
    return [figures(other) for other in others.order_by(Budget.id)]


def _require_revivable(
    budget: Budget, removed_at: datetime, others: Iterable[BudgetFigures]
) -> None:
    """Raises RequestError INVALID_REQUEST if another budget took the place of this one.

    `others` have the same department and period. A live one has the place. A deleted one that was
    removed later and has money reserved or committed had it: reviving this budget would give the
    department its whole amount again. The sheet sync rejects such a row too.
    """
    for other, balance in others:
        if other.deletedAt is None:
            advice = (
                f"Remove that budget first with `flask remove-budget {other.id}`."
                if other.sourceId is None
                else f"Remove its row from the sheet of source {other.sourceId} first."
            )
            raise rejected(
                budget,
                f"cannot be revived: budget {other.id} is live for that department and period. "
                f"{advice}",
            )
        # A time has whole seconds, so that two budgets may be removed at the same time.
        is_later = (other.deletedAt, other.createdAt) > (removed_at, budget.createdAt)
        if is_later and balance.used_minor and other.currency == budget.currency:
            raise rejected(
                budget,
                f"cannot be revived: {balance.money(balance.used_minor)} is reserved or committed "
                f"on budget {other.id}, which has the same department and period and was removed "
                f"later. Revive that budget instead with `flask restore-budget {other.id}`.",
            )
