"""The audit log: search by page, and export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from peewee import SQL

from budget_sync.database.models import AuditLog, Budget
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import paging

#: Rows per query of an export.
EXPORT_CHUNK = 1000

#: A text and an action are looked for in this many rows of the customer, the newest ones, so that a
#: page takes less than a second. The next page looks at the rows before them.
LOOKED_AT = 200_000

#: Rows per page of one budget's history.
HISTORY_SIZE = 15


class AuditLine(NamedTuple):
    """A row of the audit log, with its budget's name, currency and decimals if it has a budget.

    Rows that one call wrote together have the same `transfer_id`.
    """

    id: int
    at: datetime
    action: str
    budget_id: str | None
    department: str | None
    period: str | None
    currency: str | None
    exponent: int | None
    field: str | None
    subject: str | None
    request_id: str | None
    reservation_id: str | None
    old: str | None
    new: str | None
    budgeted_delta_minor: int
    reserved_delta_minor: int
    committed_delta_minor: int
    changed_by: str
    on_behalf_of: str | None
    approved_by: str | None
    reason: str | None
    external_ref: str | None
    transfer_id: str | None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """A search in the audit log, newest rows first. Only rows older than id `before`, if given."""

    text: str = ""
    action: str = ""
    budget_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


def audit_page(
    actor: Actor, customer_id: str, query: AuditQuery, size: int | None = None
) -> tuple[list[AuditLine], int | None]:
    """A page of the audit log, and `before` for the next page (None on the last page).

    A search for a text or an action looks at LOOKED_AT rows. So a page may have fewer rows than its
    size, or none, although there is a next one.
    """
    require_for(actor, Action.READ_AUDIT, customer_id)
    size = size or paging.PAGE_SIZE
    # For one budget, the index of the budget's rows is faster than that of the customer's rows.
    customer = paging.unindexed(AuditLog.customerId) if query.budget_id else AuditLog.customerId
    # A restore concerns all customers. It has its own query: one query for both could use no index.
    restores = AuditLog.customerId.is_null() & (AuditLog.action == "RESTORE")
    boundary = _boundary(customer_id, query)
    is_looked_at = SQL("1 = 1") if boundary is None else AuditLog.id > boundary
    found = [
        AuditLine(*row)
        for condition in (customer == customer_id, restores)
        for row in _newest(condition & is_looked_at, query).limit(size + 1)
    ]
    newest = sorted(found, key=lambda line: line.id, reverse=True)[: size + 1]
    lines, last = paging.cut(newest, size)
    if last is None and boundary is not None:
        return lines, boundary + 1
    return lines, last and last.id


def time_of(actor: Actor, customer_id: str, before: int) -> datetime | None:
    """The time of the customer's newest row that is older than id `before`; None without one."""
    require_for(actor, Action.READ_AUDIT, customer_id)
    found: datetime | None = (
        AuditLog.select(AuditLog.createdAt)
        .where(AuditLog.customerId == customer_id, AuditLog.id < before)
        .order_by(AuditLog.id.desc())
        .limit(1)
        .scalar()
    )
    return found


def _boundary(customer_id: str, query: AuditQuery) -> int | None:
    """The id of the newest row of the customer that is not looked at; None if all are.

    Only a search for a text or an action is limited, and not that of one budget.
    """
    if query.budget_id or not (query.text.strip() or query.action):
        return None
    rows = AuditLog.select(AuditLog.id).where(AuditLog.customerId == customer_id)
    if query.before is not None:
        rows = rows.where(AuditLog.id < query.before)
    newest_first = rows.order_by(AuditLog.id.desc()).limit(1)
    if query.until:
        # The search begins with the newest row before this time, however many are after it.
        newest = newest_first.where(AuditLog.createdAt < query.until).scalar()
        newest_first = newest_first.where(AuditLog.id <= (newest or 0))
    found: int | None = newest_first.offset(LOOKED_AT).scalar()
    return found


def audit_export(actor: Actor, customer_id: str, query: AuditQuery) -> Iterator[AuditLine]:
    """All rows that match, read in chunks while the caller iterates."""
    require_for(actor, Action.READ_AUDIT, customer_id)

    def read() -> Iterator[AuditLine]:
        rest = query
        while True:
            lines, before = audit_page(actor, customer_id, rest, EXPORT_CHUNK)
            yield from lines
            if before is None:
                return
            rest = replace(rest, before=before)

    return read()


def budget_history(
    actor: Actor, customer_id: str, budget_id: str, before: int | None = None
) -> tuple[list[AuditLine], int | None]:
    """A page of one budget's audit rows, newest first, and `before` for the next page."""
    query = AuditQuery(budget_id=budget_id, before=before)
    return audit_page(actor, customer_id, query, HISTORY_SIZE)


def _newest(condition: Any, query: AuditQuery) -> Any:
    return _matching(rows().where(condition), query).order_by(AuditLog.id.desc())


def _matching(found: Any, query: AuditQuery) -> Any:
    if query.before is not None:
        found = found.where(AuditLog.id < query.before)
    if query.action:
        found = found.where(AuditLog.action == query.action)
    if query.budget_id:
        found = found.where(AuditLog.budgetId == query.budget_id)
    if query.since:
        found = found.where(AuditLog.createdAt >= query.since)
    if query.until:
        found = found.where(AuditLog.createdAt < query.until)
    text = query.text.strip()
    if text:
        columns = (
            AuditLog.requestId,
            AuditLog.changedBy,
            AuditLog.onBehalfOf,
            AuditLog.approvedBy,
            AuditLog.reason,
            AuditLog.externalRef,
            AuditLog.subject,
            AuditLog.transferId,
        )
        has_text = Budget.department.contains(text)
        for column in columns:
            has_text |= column.contains(text)
        found = found.where(has_text)
    return found


def rows() -> Any:
    """The query for audit rows, in tuples with the fields of AuditLine."""
    return (
        AuditLog.select(
            AuditLog.id,
            AuditLog.createdAt,
            AuditLog.action,
            AuditLog.budgetId,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.currency,
            Budget.currencyExponent,
            AuditLog.field,
            AuditLog.subject,
            AuditLog.requestId,
            AuditLog.reservationId,
            AuditLog.oldValue,
            AuditLog.newValue,
            AuditLog.budgetedDeltaMinor,
            AuditLog.reservedDeltaMinor,
            AuditLog.committedDeltaMinor,
            AuditLog.changedBy,
            AuditLog.onBehalfOf,
            AuditLog.approvedBy,
            AuditLog.reason,
            AuditLog.externalRef,
            AuditLog.transferId,
        )
        .left_outer_join(Budget, on=(Budget.id == AuditLog.budgetId))
        .tuples()
    )
