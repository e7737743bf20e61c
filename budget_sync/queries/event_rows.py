"""The events that the rows of the audit log and of the sync runs stand for."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database.models import AuditLog, Budget, BudgetCheckLog, SyncHistory
from budget_sync.domain import clock, events
from budget_sync.domain.balance import Balance
from budget_sync.domain.events import TYPE_OF_ACTION, EventType
from budget_sync.domain.permissions import EXPIRY


class Event(NamedTuple):
    """Something that happened to a customer. `data` has amounts in whole units."""

    id: str
    type: EventType
    time: datetime
    customer_id: str
    data: dict[str, object]

    def to_json(self) -> dict[str, object]:
        """As replies and webhooks show it."""
        return {
            "id": self.id,
            "type": str(self.type),
            "time": clock.to_text(self.time),
            "customerId": self.customer_id,
            "data": self.data,
        }


def audit_rows(customer_id: str, wanted: Collection[EventType]) -> Any:
    """The query for the audit rows of a customer that may be events of these types.

    Each is of a budget, except a decline of a request for which no budget was found. That has the
    department, period and currency of its check.
    """
    columns = ("department", "fiscalPeriod", "currency", "currencyExponent")
    return (
        AuditLog.select(
            AuditLog,
            AuditLog.createdAt.alias("time"),
            *(
                fn.COALESCE(getattr(Budget, name), getattr(BudgetCheckLog, name)).alias(name)
                for name in columns
            ),
        )
        .left_outer_join(Budget, on=(Budget.id == AuditLog.budgetId))
        .left_outer_join(BudgetCheckLog, on=(BudgetCheckLog.id == AuditLog.afterCheck))
        .where(
            AuditLog.customerId == customer_id,
            AuditLog.action << _actions(wanted),
            AuditLog.budgetId.is_null(False) | (AuditLog.action == "DECLINE"),
        )
        .objects()
    )


def _actions(wanted: Collection[EventType]) -> list[str]:
    """The audit actions that may be events of these types. Others are never events."""
    if not _DERIVED.isdisjoint(wanted):
        return list(TYPE_OF_ACTION)
    actions = [action for action, kind in TYPE_OF_ACTION.items() if kind in wanted]
    return [*actions, "RELEASE"] if EventType.RESERVATION_EXPIRED in wanted else actions


#: The types that any change of a budget may cause.
_DERIVED = frozenset({EventType.BUDGET_THRESHOLD, EventType.BUDGET_OVERDRAWN})


def audit_events(row: Any) -> list[Event]:
    """The events of an audit row: its own, then those of the balance."""
    if row.budgetId is None:
        return [_decline_without_budget(row)]
    after = Balance(
        row.currency,
        row.currencyExponent,
        row.budgetedMinor,
        row.reservedMinor,
        row.committedMinor,
    )
    before = Balance(
        row.currency,
        row.currencyExponent,
        row.budgetedMinor - row.budgetedDeltaMinor,
        row.reservedMinor - row.reservedDeltaMinor,
        row.committedMinor - row.committedDeltaMinor,
    )
    kind = TYPE_OF_ACTION[row.action]
    if row.action == "RELEASE" and row.principal == EXPIRY.principal:
        kind = EventType.RESERVATION_EXPIRED
    common = _common_data(row, after)
    found = [Event(f"evt_a{row.id}", kind, row.time, row.customerId, common | _details(row, after))]
    for percent in events.crossed(before, after):
        data = common | {"threshold": percent, "percentUsed": _percent(after)}
        found.append(
            Event(
                f"evt_a{row.id}_{percent}",
                EventType.BUDGET_THRESHOLD,
                row.time,
                row.customerId,
                data,
            )
        )
    if events.became_overdrawn(before, after):
        data = common | {"amount": after.number(-after.available_minor)}
        kind = EventType.BUDGET_OVERDRAWN
        found.append(Event(f"evt_a{row.id}_over", kind, row.time, row.customerId, data))
    return found


def _decline_without_budget(row: Any) -> Event:
    """The event of a decline. Its check may have been deleted since."""
    data = {
        "budgetId": None,
        "department": row.department,
        "fiscalPeriod": row.fiscalPeriod,
        "currency": row.currency,
        "requestId": row.requestId,
        "by": row.changedBy,
        "reason": row.reason,
        "amount": _stored_number(row.newValue),
        "onBehalfOf": row.onBehalfOf,
    }
    kind = EventType.REQUEST_DECLINED
    return Event(f"evt_a{row.id}", kind, row.time, row.customerId, data)


def _stored_number(text: str) -> int | Decimal:
    """An amount of the audit log in whole units, as a number."""
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number


def _percent(balance: Balance) -> float:
    return round(balance.percent_used, 1)


def _common_data(row: Any, after: Balance) -> dict[str, object]:
    """What each event of a budget has."""
    return {
        "budgetId": row.budgetId,
        "department": row.department,
        "fiscalPeriod": row.fiscalPeriod,
        "currency": row.currency,
        "requestId": row.requestId,
        "by": row.changedBy,
        "reason": row.reason,
        "budget": after.to_json(),
    }


#: The actions whose new value is their amount: they move no money.
_DECISIONS = ("APPROVE", "DECLINE")


def _details(row: Any, after: Balance) -> dict[str, object]:
    """The amount of a movement, and what else its audit row has."""
    # Money that a reversal holds again is the amount of the rows that had committed it.
    is_held = row.action != "REVERSE" and not row.committedDeltaMinor
    moved_minor = abs(row.reservedDeltaMinor if is_held else row.committedDeltaMinor)
    is_movement = row.requestId is not None and row.action != "EXTEND"
    optional = {
        "reservationId": row.reservationId,
        "onBehalfOf": row.onBehalfOf,
        "approvedBy": row.approvedBy,
        "externalRef": row.externalRef,
        "transferId": row.transferId,
        "field": row.field,
        "oldValue": row.oldValue,
        "newValue": row.newValue,
    }
    if row.action in _DECISIONS:
        amount = _stored_number(row.newValue)
    else:
        amount = after.number(moved_minor if is_movement else after.budgeted_minor)
    return {
        "amount": amount,
        **{name: value for name, value in optional.items() if value is not None},
    }


def sync_rows(customer_id: str) -> Any:
    """The query for the sync runs of a customer, without their long lists of row errors."""
    columns = (*_SYNC_COLUMNS, SyncHistory.endTime.alias("time"))
    return SyncHistory.select(*columns).where(SyncHistory.customerId == customer_id)


_SYNC_COUNTS = (
    "createdCount",
    "updatedCount",
    "unchangedCount",
    "softDeletedCount",
    "revivedCount",
    "heldCount",
    "errorCount",
    "overdrawnCount",
)
_SYNC_FACTS = ("id", "customerId", "syncId", "sourceId", "status", "startedBy", "message")
_SYNC_COLUMNS = [getattr(SyncHistory, name) for name in (*_SYNC_FACTS, *_SYNC_COUNTS)]


def sync_events(row: Any) -> list[Event]:
    """The events of a sync run. A run that was skipped is none."""
    if row.status == "skipped":
        return []
    data: dict[str, object] = {
        "syncId": row.syncId,
        "sourceId": row.sourceId,
        "status": row.status,
        "by": row.startedBy,
        "reason": row.message,
        **{name: getattr(row, name) for name in _SYNC_COUNTS},
    }
    kind = EventType.SYNC_FAILED if row.status == "failed" else EventType.SYNC_FINISHED
    found = [Event(f"evt_s{row.id}", kind, row.time, row.customerId, data)]
    if row.heldCount:
        found.append(
            Event(f"evt_s{row.id}_held", EventType.SYNC_HELD, row.time, row.customerId, data)
        )
    return found
