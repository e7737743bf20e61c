"""What was spent by vendor, department and month, from the movements of committed money.

The total of a month is the sum of the commits, reversals and spends that were recorded in it, in
the customer's time zone, so that it agrees with the balances. The vendor is that of the spend, or
of the request's latest check that names one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

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

#: A page adds up this many movements, the latest ones, so that it takes less than a second. It has
#: whole days only.
ADDED_UP = 100_000


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

    `first` is the first day that is added up. `totals` are `{currency: (exponent, minor units)}`.
    """

    first: date
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
    Only the latest ADDED_UP movements count, on whole days: `first` of the result says from which
    day. Vendors come in the order of their total, the largest first. Raises RequestError
    INVALID_REQUEST if the days are in the wrong order or more than MAX_MONTHS apart.
    """
    require_for(actor, Action.READ_AUDIT, customer.id)
    _months(first, last)
    first = _first_added_up(customer, first, last)
    months = _months(first, last)
    cells = [
        cell
        for month in months
        for cell in _cells(customer, month, first, last, vendor, department)
    ]
    return SpendTotals(first, months, _rows(cells), _totals(cells))


def spend_export(
    actor: Actor,
    customer: Customer,
    first: date,
    last: date,
    vendor: str = "",
    department: str = "",
) -> Iterator[VendorRow]:
    """The rows of all days, month by month, read while the caller iterates.

    Raises RequestError as `spend_totals`.
    """
    require_for(actor, Action.READ_AUDIT, customer.id)
    months = _months(first, last)
    return (
        row
        for month in months
        for row in _rows(_cells(customer, month, first, last, vendor, department))
    )


def _first_added_up(customer: Customer, first: date, last: date) -> date:
    """The first whole day of the latest ADDED_UP movements from `first` to `last`.

    It is `first` if there are no more, and at most `last`.
    """
    latest_first = (
        AuditLog.select(AuditLog.createdAt)
        .where(_is_spent(customer, first, last))
        .order_by(AuditLog.createdAt.desc())
    )
    left_out: datetime | None = latest_first.limit(1).offset(ADDED_UP).scalar()
    if left_out is None:
        return first
    day = left_out.astimezone(ZoneInfo(customer.timeZone)).date()
    return min(day + timedelta(days=1), last)


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


def _cells(
    customer: Customer, month: date, first: date, last: date, vendor: str, department: str
) -> list[Cell]:
    """The cells of a month, only from `first` to `last`, that match."""
    query = movements(customer, max(first, month), min(last, _last_of(month)))
    if department.strip():
        query = query.where(Budget.departmentKey == fold(department))
    found = []
    for name, _, of_department, currency, *parts in query:
        exponent, (minor,) = combine_sums(parts)
        found.append(Cell(name or "", of_department, month, currency, exponent, minor))
    return [cell for cell in found if fold(vendor) in fold(cell.vendor)]


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
        .where(_is_spent(customer, first, last))
        .group_by(SQL("1"), Budget.departmentKey, Budget.currency)
        .tuples()
    )


def _is_spent(customer: Customer, first: date, last: date) -> Any:
    """Whether an audit row changes the committed amount, from one day to another."""
    return (
        (AuditLog.customerId == customer.id)
        & (AuditLog.createdAt >= midnight(first, customer))
        & (AuditLog.createdAt < past_day(last, customer).end)
        # A literal: the database must see that AuditLog_spent has these rows.
        & NodeList((AuditLog.committedDeltaMinor, SQL("<> 0")))
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
