"""The audit log: searched, and read to its end for a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from budget_sync.database.models import AuditLog, Budget
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import paging

#: Rows read at once for a file.
EXPORT_CHUNK = 1000

#: Rows of a page about one budget.
HISTORY_SIZE = 15


class AuditLine(NamedTuple):
    """One row of the audit log, with its budget's name, currency and decimals where it has one."""

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


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which rows of the audit log, newest first; `before` is the last one of the page before."""

    text: str = ""
    action: str = ""
    budget_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


def audit_page(
    actor: Actor, customer_id: str, query: AuditQuery, size: int | None = None
) -> tuple[list[AuditLine], int | None]:
    """A page of the audit log, and what the next one goes on after."""
    require_for(actor, Action.READ_AUDIT, customer_id)
    size = size or paging.PAGE_SIZE
    # The index of a budget's own rows finds them sooner than the one of the customer's.
    customer = paging.unindexed(AuditLog.customerId) if query.budget_id else AuditLog.customerId
    # A restore is everybody's. Asked for by itself, since either index would be of no use to a query that has both.
    restores = AuditLog.customerId.is_null() & (AuditLog.action == "RESTORE")
    found = [
        AuditLine(*row)
        for whose in (customer == customer_id, restores)
        for row in _newest(whose, query).limit(size + 1)
    ]
    lines, last = paging.cut(
        sorted(found, key=lambda line: line.id, reverse=True)[: size + 1], size
    )
    return lines, last and last.id


def audit_export(actor: Actor, customer_id: str, query: AuditQuery) -> Iterator[AuditLine]:
    """All rows that a query finds, read in chunks as they are asked for."""
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
    """A page of a budget's rows in the audit log, newest first, and what the next one goes on after."""
    return audit_page(
        actor, customer_id, AuditQuery(budget_id=budget_id, before=before), HISTORY_SIZE
    )


def _newest(whose: Any, query: AuditQuery) -> Any:
    return _matching(rows().where(whose), query).order_by(AuditLog.id.desc())


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
        )
        told = Budget.department.contains(text)
        for column in columns:
            told |= column.contains(text)
        found = found.where(told)
    return found


def rows() -> Any:
    """The query for rows of the log, as the fields of AuditLine."""
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
        )
        .left_outer_join(Budget, on=(Budget.id == AuditLog.budgetId))
        .tuples()
    )
