"""Reads the database for an import: budgets, earlier spends, and commits with a PO."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.accounts.customers import fiscal_year_of
from budget_sync.database.models import (
    AuditLog,
    Budget,
    BudgetUtilization,
    Customer,
    DepartmentAlias,
    Reservation,
    Spend,
)
from budget_sync.domain.balance import Balance
from budget_sync.domain.money import format_money
from budget_sync.spend_import.dates import to_day
from budget_sync.spend_import.rows import BudgetOfRow, Budgets


class EarlierSpend(NamedTuple):
    """A spend that is recorded already."""

    budget_id: str
    amount_minor: int
    day: date
    currency: str
    exponent: int

    @property
    def text(self) -> str:
        """The spend for people."""
        money = format_money(self.amount_minor, self.currency, self.exponent)
        return f"{money} on budget {self.budget_id}, dated {self.day}"


class CommittedPo(NamedTuple):
    """The amount that a request committed with a PO and did not reverse."""

    request_id: str
    budget_id: str
    currency: str
    exponent: int
    amount_minor: int

    @property
    def money(self) -> str:
        """The amount for people."""
        return format_money(self.amount_minor, self.currency, self.exponent)


def load_budgets(customer: Customer) -> Budgets:
    """The customer's live budgets with their figures, and the aliases of their departments."""
    budgets = Budgets(fiscal_year_of(customer))
    query: Any = (
        Budget.select(
            Budget.id,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.departmentKey,
            Budget.periodKey,
            Budget.currency,
            Budget.currencyExponent,
            Budget.budgetedMinor,
            BudgetUtilization.reservedMinor,
            BudgetUtilization.committedMinor,
        )
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .where((Budget.customerId == customer.id) & Budget.deletedAt.is_null())
        .order_by(Budget.id)
    )
    for row in query.namedtuples().iterator():
        balance = Balance(
            row.currency,
            row.currencyExponent,
            row.budgetedMinor,
            row.reservedMinor,
            row.committedMinor,
        )
        budget = BudgetOfRow(row.id, row.department, row.fiscalPeriod, balance)
        budgets.add(row.departmentKey, row.periodKey, budget)
    for alias in DepartmentAlias.select().where(DepartmentAlias.customerId == customer.id):
        budgets.add_alias(alias.nameKey, alias.departmentKey)
    return budgets


def earlier_spends(
    customer_id: str, spend_ids: Iterable[str]
) -> Iterator[tuple[str, EarlierSpend]]:
    """The spends that are recorded with these ids."""
    query: Any = (
        Spend.select(
            Spend.spendId,
            Spend.budgetId,
            Spend.amountMinor,
            Spend.spentOn,
            Spend.currencyExponent,
            Budget.currency,
        )
        .join(Budget, on=(Budget.id == Spend.budgetId))
        .where((Spend.customerId == customer_id) & Spend.spendId.in_(list(spend_ids)))
    )
    for row in query.namedtuples():
        yield (
            row.spendId,
            EarlierSpend(
                row.budgetId,
                row.amountMinor,
                to_day(row.spentOn),
                row.currency,
                row.currencyExponent,
            ),
        )


def committed_pos(customer_id: str, pos: Iterable[str]) -> dict[str, list[CommittedPo]]:
    """The commits of requests with these POs, in any letter case, by folded PO.

    A reversal with the same number counts against it, and so does one with another number, such as
    that of a credit note, as soon as the request has less committed than the PO. Spends have
    numbers too, but are no commits.
    """
    spellings = {spelling for po in pos for spelling in (po, po.upper(), po.lower())}
    found: dict[str, list[CommittedPo]] = defaultdict(list)
    if not spellings:
        return found
    for row in _with_references(customer_id, sorted(spellings)).namedtuples():
        committed_minor = min(int(row.with_po_minor), int(row.of_request_minor or 0))
        if committed_minor > 0:
            found[row.externalRef.casefold()].append(
                CommittedPo(
                    row.requestId,
                    row.budgetId,
                    row.currency,
                    row.currencyExponent,
                    committed_minor,
                )
            )
    return found


def _with_references(customer_id: str, spellings: list[str]) -> Any:
    """The query for what each request committed with these references, and in total."""
    # SQLite's LOWER knows ASCII only.
    reference = AuditLog.externalRef
    is_one_of_them = fn.LOWER(reference).in_(spellings) | reference.in_(spellings)
    still_committed = Reservation.select(
        fn.SUM(Reservation.committedMinor - Reservation.reversedMinor)
    ).where(
        (Reservation.customerId == customer_id)
        & (Reservation.requestId == AuditLog.requestId)
        & (Reservation.budgetId == AuditLog.budgetId)
    )
    # Of a reversed spend, the audit log has no COMMIT, so that its sum is negative.
    return (
        AuditLog.select(
            AuditLog.externalRef,
            AuditLog.requestId,
            AuditLog.budgetId,
            Budget.currency,
            Budget.currencyExponent,
            fn.SUM(AuditLog.committedDeltaMinor).alias("with_po_minor"),
            still_committed.alias("of_request_minor"),
        )
        .join(Budget, on=(Budget.id == AuditLog.budgetId))
        .where(
            (AuditLog.customerId == customer_id)
            & reference.is_null(False)
            & is_one_of_them
            & AuditLog.action.in_(("COMMIT", "REVERSE"))
        )
        .group_by(
            AuditLog.externalRef,
            AuditLog.requestId,
            AuditLog.budgetId,
            Budget.currency,
            Budget.currencyExponent,
        )
        .order_by(AuditLog.requestId, AuditLog.budgetId)
    )
