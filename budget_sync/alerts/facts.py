"""Reads the events of a customer after an alert's cursor."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from peewee import JOIN

from budget_sync.alerts.conditions import OF_BALANCE, OF_SYNC, Condition, Kind
from budget_sync.alerts.plan import BudgetChange, Fact, Pause, SyncRun
from budget_sync.database import Horizon
from budget_sync.database.delivery_models import Alert, AlertState
from budget_sync.database.models import AuditLog, Budget, Reservation, SyncHistory
from budget_sync.domain.balance import Balance
from budget_sync.queries.events import Cursor
from budget_sync.queries.sync_runs import before_unfinished

#: The most rows of each log in a page, and the most stale reservations.
PAGE_SIZE = 500


class Page(NamedTuple):
    """Facts by time, the cursor after them, and whether there are more."""

    facts: list[Fact]
    cursor: Cursor
    has_more: bool


def read_page(
    alert: Alert, conditions: list[Condition], position: Cursor, at: Horizon, size: int = PAGE_SIZE
) -> Page:
    """The next facts for an alert after a position, up to a horizon.

    Each log keeps its own order, even if a clock jumped.
    """
    kinds = {condition.kind for condition in conditions}
    audit_rows: list[Any] = []
    sync_rows: list[Any] = []
    if kinds & (OF_BALANCE | {Kind.WEBHOOK_PAUSED}):
        query = _audit_rows(alert).where(
            AuditLog.id > position.audit_id, AuditLog.id <= at.settled.audit
        )
        audit_rows = list(query.order_by(AuditLog.id).limit(size))
    settled_sync = at.settled.sync
    if kinds & OF_SYNC:
        settled_sync = before_unfinished(alert.customerId, position.sync_id, settled_sync)
        sync_rows = list(
            SyncHistory.select()
            .where(
                SyncHistory.customerId == alert.customerId,
                SyncHistory.id > position.sync_id,
                SyncHistory.id <= settled_sync,
                SyncHistory.status != "skipped",
            )
            .order_by(SyncHistory.id)
            .limit(size)
        )
    audit_end = audit_rows[-1].id if len(audit_rows) == size else at.settled.audit
    sync_end = sync_rows[-1].id if len(sync_rows) == size else settled_sync
    facts: list[Fact] = [_audit_fact(row) for row in audit_rows]
    facts += map(_sync_run, sync_rows)
    facts.sort(key=lambda fact: fact.time)
    return Page(
        facts,
        Cursor(max(audit_end, position.audit_id), 0, max(sync_end, position.sync_id), 0),
        has_more=size in (len(audit_rows), len(sync_rows)),
    )


def _audit_rows(alert: Alert) -> Any:
    """The audit rows that change a budget's figures or period, or that pause a webhook."""
    is_change = (
        (AuditLog.budgetedDeltaMinor != 0)
        | (AuditLog.reservedDeltaMinor != 0)
        | (AuditLog.committedDeltaMinor != 0)
        | (AuditLog.field == "fiscalPeriod")
    )
    if alert.departmentKey is not None:
        is_change &= Budget.departmentKey == alert.departmentKey
    return (
        AuditLog.select(
            AuditLog,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.currency,
            Budget.currencyExponent,
            Budget.ownerEmail,
        )
        .join(Budget, JOIN.LEFT_OUTER, on=(Budget.id == AuditLog.budgetId))
        .where(
            AuditLog.customerId == alert.customerId,
            (AuditLog.budgetId.is_null(False) & is_change) | (AuditLog.action == "PAUSE_WEBHOOK"),
        )
        .objects()
    )


def _audit_fact(row: Any) -> Fact:
    if row.budgetId is None:
        return Pause(row.createdAt, row.subject, row.newValue or "")
    after = Balance(
        row.currency,
        row.currencyExponent,
        row.budgetedMinor,
        row.reservedMinor,
        row.committedMinor,
    )
    before = after._replace(
        budgeted_minor=row.budgetedMinor - row.budgetedDeltaMinor,
        reserved_minor=row.reservedMinor - row.reservedDeltaMinor,
        committed_minor=row.committedMinor - row.committedDeltaMinor,
    )
    what = f"Request {row.requestId}" if row.requestId else (row.reason or "Changed").rstrip(".")
    return BudgetChange(
        row.createdAt,
        row.budgetId,
        row.department,
        row.fiscalPeriod,
        row.ownerEmail,
        before,
        after,
        row.field == "fiscalPeriod" and row.action == "UPDATE",
        f"{what}, by {row.changedBy}.",
    )


def _sync_run(row: SyncHistory) -> SyncRun:
    return SyncRun(
        row.endTime,
        row.syncId,
        row.sourceId,
        row.status == "failed",
        row.heldCount,
        row.message or "",
    )


class StaleHold(NamedTuple):
    """A reservation that is open for too long, and was not reported yet."""

    reservation_id: str
    request_id: str
    budget_id: str
    department: str
    fiscal_period: str
    owner: str | None
    held: str
    opened: datetime


def stale_holds(alert: Alert, condition: Condition, now: datetime) -> list[StaleHold]:
    """The reservations to report, the oldest first, at most PAGE_SIZE."""
    reported = AlertState.select(AlertState.subject).where(
        AlertState.alertId == alert.id, AlertState.condition == condition.text
    )
    query = (
        Reservation.select(
            Reservation,
            Budget.department,
            Budget.fiscalPeriod,
            Budget.ownerEmail,
            Budget.currency,
        )
        .join(Budget, on=(Budget.id == Reservation.budgetId))
        .where(
            Reservation.customerId == alert.customerId,
            Reservation.status == "open",
            Reservation.createdAt < now - timedelta(days=condition.number),
            Reservation.id.not_in(reported),
        )
    )
    if alert.departmentKey is not None:
        query = query.where(Budget.departmentKey == alert.departmentKey)
    rows: Any = query.order_by(Reservation.createdAt, Reservation.seq).limit(PAGE_SIZE).objects()
    return [
        StaleHold(
            row.id,
            row.requestId,
            row.budgetId,
            row.department,
            row.fiscalPeriod,
            row.ownerEmail,
            Balance(row.currency, row.currencyExponent, 0, 0, 0).money(row.heldMinor),
            row.createdAt,
        )
        for row in rows
    ]
