"""Read-only: what an operator's monitoring asks the database each time it looks. A few quick queries, about all customers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database import sums, whole_sums
from budget_sync.database.models import (
    Budget,
    BudgetDataSourceConfig,
    BudgetUtilization,
    Customer,
    SyncHistory,
)
from budget_sync.domain import clock
from budget_sync.domain.money import to_number
from budget_sync.queries.overview import IS_OVERDRAWN


class Balances(NamedTuple):
    """What a customer's live budgets of one currency add up to, in whole units."""

    customer_id: str
    currency: str
    budgeted: int | Decimal
    reserved: int | Decimal
    committed: int | Decimal

    @property
    def available(self) -> int | Decimal:
        """What is left of them together."""
        return self.budgeted - self.reserved - self.committed


class SourceState(NamedTuple):
    """How fresh a source's budgets are: seconds since a pass last worked (or since the source was made), and how the latest ended.

    A pass worked if it was a success or partial. One that was skipped is none, and `last_result` is None before the first.
    """

    customer_id: str
    source_id: str
    age_s: int
    last_result: str | None


def balances() -> list[Balances]:
    """The balances of every customer, by currency."""
    query: Any = (
        Budget.select(
            Budget.customerId,
            Budget.currency,
            *sums(
                Budget.currencyExponent,
                Budget.budgetedMinor,
                BudgetUtilization.reservedMinor,
                BudgetUtilization.committedMinor,
            ),
        )
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .where(Budget.deletedAt.is_null())
        .group_by(Budget.customerId, Budget.currency)
        .order_by(Budget.customerId, Budget.currency)
    )
    return [
        Balances(customer_id, currency, *(to_number(minor, exponent) for minor in amounts))
        for customer_id, currency, *selected in query.tuples()
        for exponent, amounts in [whole_sums(selected)]
    ]


def overdrawn() -> dict[str, int]:
    """How many of a customer's live budgets are overdrawn, by the ids of the customers that have live ones."""
    query: Any = (
        Budget.select(Budget.customerId, fn.COUNT(Budget.id).filter(IS_OVERDRAWN))
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .where(Budget.deletedAt.is_null())
        .group_by(Budget.customerId)
        .order_by(Budget.customerId)
    )
    return dict(query.tuples())


def sources() -> list[SourceState]:
    """The sources that passes are made over: those that are followed, of customers that are not disabled."""
    now = clock.now()
    query: Any = (
        BudgetDataSourceConfig.select(
            BudgetDataSourceConfig.customerId,
            BudgetDataSourceConfig.id,
            fn.COALESCE(
                _latest(SyncHistory.endTime, "success", "partial"), BudgetDataSourceConfig.createdAt
            ),
            _latest(SyncHistory.status, "success", "partial", "failed"),
        )
        .join(Customer, on=(Customer.id == BudgetDataSourceConfig.customerId))
        .where(
            BudgetDataSourceConfig.isActive,
            BudgetDataSourceConfig.removedAt.is_null(),
            Customer.disabledAt.is_null(),
        )
        .order_by(BudgetDataSourceConfig.customerId, BudgetDataSourceConfig.id)
    )
    return [
        SourceState(
            customer_id,
            source_id,
            int((now - clock.from_text(fresh_at)).total_seconds()),
            last_result,
        )
        for customer_id, source_id, fresh_at, last_result in query.tuples()
    ]


def _latest(column: Any, *statuses: str) -> Any:
    """A column of a source's latest pass that ended so."""
    return (
        SyncHistory.select(column)
        .where(
            (SyncHistory.sourceId == BudgetDataSourceConfig.id) & SyncHistory.status.in_(statuses)
        )
        .order_by(SyncHistory.id.desc())
        .limit(1)
    )
