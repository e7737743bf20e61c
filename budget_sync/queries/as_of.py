"""Balances as of the end of a past day, from the audit log.

Each audit row has the balance after it. A budget's balance as of a day is that of its row with the
highest version whose time is before the end of the day, in the customer's time zone. So the order
of the versions counts, even if the clock was set back between two rows. Names of departments and
periods are the present ones.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from peewee import SQL, NodeList, fn

from budget_sync.database.models import AuditLog, Budget, BudgetUtilization, Customer
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries.budgets import BudgetLine, BudgetQuery, to_line
from budget_sync.queries.visible import visible

#: The first year that can be asked for. No row is older.
MIN_YEAR = 1970


class PastDay(NamedTuple):
    """A day that has begun in the customer's time zone, and the moment at which it ends."""

    day: date
    end: datetime


def today_of(customer: Customer) -> date:
    """Today's date in the customer's time zone."""
    return clock.now().astimezone(ZoneInfo(customer.timeZone)).date()


def midnight(day: date, customer: Customer) -> datetime:
    """The moment at which a day begins in the customer's time zone."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(customer.timeZone))


def past_day(day: date, customer: Customer) -> PastDay:
    """The day as a PastDay, without checking that it has begun."""
    return PastDay(day, midnight(day + timedelta(days=1), customer))


def parse_past_day(text: str, name: str, customer: Customer) -> PastDay:
    """The day of a text such as "2026-10-31".

    Raises RequestError INVALID_REQUEST for the field `name` if the text is not a day or the day is
    in the future.
    """
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007  # only the date is used
    except ValueError:
        raise invalid_request({name: "must be a day such as 2026-10-31"}) from None
    if day.year < MIN_YEAR or len(text) != len("2026-10-31"):
        raise invalid_request({name: f"must be a day from {MIN_YEAR} such as 2026-10-31"})
    if day > today_of(customer):
        raise invalid_request(
            {name: f"must not be in the future; today is {today_of(customer)} for the customer"}
        )
    return past_day(day, customer)


def rows_at(end: datetime, *, has_deleted: bool = False) -> Any:
    """The query for the budgets that were live before `end`, in tuples for `to_line`.

    With `has_deleted`, also those that were deleted then. `updated_at` is the time of the row that
    has the balance.
    """
    query = (
        Budget.select(
            Budget.id,
            Budget.customerId,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.periodKey,
            Budget.currency,
            Budget.currencyExponent,
            AuditLog.budgetedMinor,
            AuditLog.reservedMinor,
            AuditLog.committedMinor,
            Budget.autoApproveLimitMinor,
            SQL("NULL"),
            Budget.sourceId,
            Budget.sourceRow,
            Budget.externalId,
            AuditLog.createdAt,
            Budget.ownerEmail,
        )
        .join(BudgetUtilization, on=(BudgetUtilization.budgetId == Budget.id))
        .join(
            AuditLog,
            on=((AuditLog.budgetId == Budget.id) & (AuditLog.version == _version_at(end))),
        )
        .tuples()
    )
    return query if has_deleted else query.where(_is_live())


def _version_at(end: datetime) -> Any:
    """The highest version of a budget whose time is before `end`."""
    newest, row = AuditLog.alias("newest"), AuditLog.alias("row_before")
    # Most budgets do not change after their period: their newest row is the one.
    is_newest = newest.select(newest.version).where(
        newest.budgetId == Budget.id,
        newest.version == BudgetUtilization.version,
        newest.createdAt < end,
    )
    # The sum keeps the database from reading the versions downwards, which reads all rows after the
    # day from the table. AuditLog_balance has all that this needs.
    among_all = row.select(fn.MAX(row.version + 0)).where(
        row.budgetId == Budget.id, row.createdAt < end
    )
    return fn.COALESCE(is_newest, among_all)


def _is_live() -> Any:
    change = AuditLog.alias("deletion")
    last = (
        change.select(change.action)
        .where(
            change.budgetId == Budget.id,
            change.version <= AuditLog.version,
            # Literals: the database must see that AuditLog_deletion has these rows.
            NodeList((change.action, SQL("IN ('SOFT_DELETE', 'REVIVE')"))),
        )
        .order_by(change.version.desc())
        .limit(1)
    )
    return fn.COALESCE(last, "REVIVE") == "REVIVE"


def lines_at(
    actor: Actor, customer_id: str, day: PastDay, period_key: str | None = None
) -> list[BudgetLine]:
    """The budgets that were live at the end of a day, by department and period."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    query = visible(rows_at(day.end), actor).where(Budget.customerId == customer_id)
    if period_key is not None:
        query = query.where(Budget.periodKey == period_key)
    order = (Budget.departmentKey, Budget.periodKey, Budget.id)
    return [to_line(row) for row in query.order_by(*order)]


def line_at(actor: Actor, customer_id: str, day: PastDay, budget_id: str) -> BudgetLine:
    """One budget as of a day. Raises RequestError BUDGET_NOT_FOUND if it was not live then."""
    require_for(actor, Action.READ_BUDGETS, customer_id)
    rows = visible(rows_at(day.end), actor)
    row = rows.where(Budget.customerId == customer_id, Budget.id == budget_id).first()
    if row is None:
        raise RequestError(
            Code.BUDGET_NOT_FOUND,
            f"There was no budget with that id on {day.day}.",
            budgetId=budget_id,
        )
    return to_line(row)


def search_at(actor: Actor, customer_id: str, day: PastDay, query: BudgetQuery) -> list[BudgetLine]:
    """All budgets as of a day that match a search, in its order.

    The state `deleted` finds none: only budgets that were live then are known.
    """
    found = lines_at(actor, customer_id, day, query.period_key or None)
    if query.state != "live":
        found = [line for line in found if line.state == query.state]
    text = query.text.strip()
    if text:
        found = [
            line
            for line in found
            if fold(text) in fold(line.department)
            or text.lower() in line.id.lower()
            or text.lower() in (line.external_id or "").lower()
        ]
    order = query.order.removeprefix("-")
    return sorted(
        found, key=lambda line: _sort_key(line, order), reverse=query.order.startswith("-")
    )


def _sort_key(line: BudgetLine, order: str) -> tuple[Any, ...]:
    balance, department = line.balance, fold(line.department)
    if order == "used":
        # As in the list of today: a budget of 0 counts as 1 minor unit.
        return balance.used_minor / (balance.budgeted_minor or 1), line.id
    if order in ("budgeted", "reserved", "committed", "available"):
        return getattr(balance, f"{order}_minor") / 10**balance.exponent, line.id
    if order == "period":
        return line.period_key, department, line.id
    return department, line.period_key, line.id
