"""SQL expressions for balances, shared by the queries that filter, sort and add up budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peewee import Case

from budget_sync.database import combine_sums
from budget_sync.database.models import Budget, BudgetUtilization
from budget_sync.domain.balance import HIGH_PERCENT, Balance
from budget_sync.domain.money import MAX_EXPONENT

AMOUNTS = (Budget.budgetedMinor, BudgetUtilization.reservedMinor, BudgetUtilization.committedMinor)

#: The columns of a Balance, in the order of its fields.
BALANCE = (Budget.currency, Budget.currencyExponent, *AMOUNTS)

USED = BudgetUtilization.reservedMinor + BudgetUtilization.committedMinor

# These two agree with `Balance.state`. Both amounts are below 10^15, so 100 times as much fits into
# 64 bits.
IS_OVERDRAWN = Budget.budgetedMinor < USED
IS_HIGH = (Budget.budgetedMinor * HIGH_PERCENT < USED * 100) & (Budget.budgetedMinor >= USED)


def in_whole_units(minor: Any) -> Any:
    """An amount of a budget in whole units, rounded: to sort budgets with different decimals."""
    powers = [(exponent, 10**exponent) for exponent in range(1, MAX_EXPONENT + 1)]
    return minor * 1.0 / Case(Budget.currencyExponent, powers, 1)


def live_budgets(customer_id: str | None = None, period_key: str | None = None) -> Any:
    """The query for live budgets with their balances; the caller adds the columns.

    Without `customer_id`, the budgets of all customers; without `period_key`, of all periods.
    """
    query = Budget.select().join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
    query = query.where(Budget.deletedAt.is_null())
    if customer_id is not None:
        query = query.where(Budget.customerId == customer_id)
    return query if period_key is None else query.where(Budget.periodKey == period_key)


def total_balance(currency: str, selected: Sequence[int]) -> Balance:
    """The Balance of several budgets from `sums(Budget.currencyExponent, *AMOUNTS)` as selected."""
    exponent, amounts = combine_sums(selected)
    return Balance(currency, exponent, *amounts)
