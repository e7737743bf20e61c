"""What was spent by vendor, department and month, from the movements of committed money.

The total of a month is the sum of the commits, reversals and spends that were recorded in it, in
the customer's time zone, so that it agrees with the balances. The vendor is that of the spend, or
of the request's latest check that names one.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Any, NamedTuple

from peewee import SQL, Case, NodeList, fn

from budget_sync.database import combine_sums, sums
from budget_sync.database.models import AuditLog, Budget, BudgetCheckLog, Customer, Spend
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.money import rescaled
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries.as_of import midnight, past_day

#: The most months of one report.
MAX_MONTHS = 60


class Cell(NamedTuple):
    """What was spent with a vendor by a department in a month, in minor units.

    `vendor` is "" if it is unknown. `month` is its first day.
    """

    vendor: str
    department: str
    month: date
    currency: str
    exponent: int
    spent_minor: int


class VendorRow(NamedTuple):
    """What a department spent with a vendor, by month and in total, in minor units."""

    vendor: str
    department: str
    currency: str
    exponent: int
    months: dict[date, int]
    total_minor: int


class SpendTotals(NamedTuple):
    """Spend from one day to another: the months, a row per vendor and department, and totals.

    `totals` are `{currency: (exponent, minor units)}`.
    """

    months: list[date]
    rows: list[VendorRow]
    totals: dict[str, tuple[int, int]]


def spend_totals(
    actor: Actor,
    customer: Customer,
    first: date,
    last: date,
    vendor: str = "",
    department: str = "",
) -> SpendTotals:
    """What was spent from the day `first` to the day `last`, both included.

    `vendor` is a part of the vendor's name, `department` a name as in a check; "" means all.
    Vendors come in the order of their total, the largest first. Raises RequestError INVALID_REQUEST
    if the days are in the wrong order or more than MAX_MONTHS apart.
    """
    require_for(actor, Action.READ_AUDIT, customer.id)
    months = _months(first, last)
    cells = [
        cell
        for month in months
        for cell in _cells(customer, max(first, month), min(last, _last_of(month)), department)
        if fold(vendor) in fold(cell.vendor)
    ]
    return SpendTotals(months, _rows(cells), _totals(cells))


def _months(first: date, last: date) -> list[date]:
    if last < first:
        raise invalid_request({"to": "must not be before the first day"})
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    if count > MAX_MONTHS:
        raise invalid_request({"from": f"must be at most {MAX_MONTHS} months before the last day"})
    begin = first.year * 12 + first.month - 1
    return [date(number // 12, number % 12 + 1, 1) for number in range(begin, begin + count)]


def _last_of(month: date) -> date:
    following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    return date.fromordinal(following.toordinal() - 1)


def _cells(customer: Customer, first: date, last: date, department: str) -> list[Cell]:
    """The cells of one month, or of a part of it."""
    query = movements(customer, first, last)
    if department.strip():
        query = query.where(Budget.departmentKey == fold(department))
    found = []
    for vendor, _, name, currency, *parts in query:
        exponent, (minor,) = combine_sums(parts)
        found.append(Cell(vendor or "", name, first.replace(day=1), currency, exponent, minor))
    return found


def movements(customer: Customer, first: date, last: date) -> Any:
    """The query for what was spent from one day to another, by vendor, department and currency."""
    return (
        AuditLog.select(
            _vendor(customer.id).alias("vendor"),
            Budget.departmentKey,
            fn.MIN(Budget.department),
            Budget.currency,
            *sums(Budget.currencyExponent, AuditLog.committedDeltaMinor),
        )
        .join(Budget, on=(Budget.id == AuditLog.budgetId))
        .where(
            AuditLog.customerId == customer.id,
            AuditLog.createdAt >= midnight(first, customer),
            AuditLog.createdAt < past_day(last, customer).end,
            # A literal: the database must see that AuditLog_spent has these rows.
            NodeList((AuditLog.committedDeltaMinor, SQL("<> 0"))),
        )
        .group_by(SQL("1"), Budget.departmentKey, Budget.currency)
        .tuples()
    )


def _vendor(customer_id: str) -> Any:
    """The vendor of a movement: a movement of a spend has no reservation."""
    spend = Spend.select(Spend.vendor).where(
        Spend.customerId == customer_id, Spend.spendId == AuditLog.requestId
    )
    check = (
        BudgetCheckLog.select(BudgetCheckLog.vendor)
        .where(
            BudgetCheckLog.customerId == customer_id,
            BudgetCheckLog.requestId == AuditLog.requestId,
            BudgetCheckLog.vendor.is_null(False),
        )
        .order_by(BudgetCheckLog.id.desc())
        .limit(1)
    )
    return Case(None, [(AuditLog.reservationId.is_null(), spend)], check)


def _rows(cells: list[Cell]) -> list[VendorRow]:
    names: dict[str, str] = {}
    found: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        names.setdefault(fold(cell.vendor), cell.vendor)
        found[fold(cell.vendor), fold(cell.department), cell.currency].append(cell)
    rows = []
    of_vendor: dict[tuple[str, str], float] = defaultdict(float)
    for (vendor, _, currency), of_row in found.items():
        exponent = max(cell.exponent for cell in of_row)
        months: dict[date, int] = defaultdict(int)
        for cell in of_row:
            months[cell.month] += rescaled(cell.spent_minor, cell.exponent, exponent)
        total = sum(months.values())
        of_vendor[currency, vendor] += total / 10**exponent
        row = VendorRow(
            names[vendor], of_row[0].department, currency, exponent, dict(months), total
        )
        rows.append(row)
    return sorted(
        rows,
        key=lambda row: (
            row.currency,
            -of_vendor[row.currency, fold(row.vendor)],
            fold(row.vendor),
            -row.total_minor / 10**row.exponent,
            fold(row.department),
        ),
    )


def _totals(cells: list[Cell]) -> dict[str, tuple[int, int]]:
    exponents: dict[str, int] = defaultdict(int)
    for cell in cells:
        exponents[cell.currency] = max(exponents[cell.currency], cell.exponent)
    totals: dict[str, int] = defaultdict(int)
    for cell in cells:
        totals[cell.currency] += rescaled(cell.spent_minor, cell.exponent, exponents[cell.currency])
    return {currency: (exponents[currency], totals[currency]) for currency in sorted(totals)}
