"""The events of a customer, in order: the audit log and the sync runs, with a cursor.

Events are not stored. Each is derived from a row that is there anyway, so a client that keeps its
cursor gets every event once.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from peewee import fn

from budget_sync.database import horizon, unavailable
from budget_sync.database.models import AuditLog, Budget, BudgetCheckLog, SyncHistory
from budget_sync.database.settled import Horizon
from budget_sync.domain import clock, events
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.events import TYPE_OF_ACTION, EventType
from budget_sync.domain.permissions import EXPIRY, Action, Actor, require_for

#: The most events of a page.
PAGE_SIZE = 100

#: The most rows of a log that a page reads, if only some types are asked for.
_MOST_ROWS = 1000

# The most rows of the audit log that a page passes, if those of the types are rare.
_MOST_PASSED = 20_000

# A row of each log. If only a part of the events of that row were given, their number comes next;
# 0 stands for all of them.
_CURSOR = re.compile(r"a([0-9]{1,18})\.([0-9]{1,2})-s([0-9]{1,18})\.([0-9])", re.ASCII)

#: The cursor to begin with the events that happen from now on.
LATEST = "latest"


class Cursor(NamedTuple):
    """A position in the events: the last row of each log that was given.

    `…_part` is the number of events of that row that were given, or 0 for all of them.
    """

    audit_id: int = 0
    audit_part: int = 0
    sync_id: int = 0
    sync_part: int = 0

    @property
    def text(self) -> str:
        """The cursor as clients keep it."""
        return f"a{self.audit_id}.{self.audit_part}-s{self.sync_id}.{self.sync_part}"


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


class EventPage(NamedTuple):
    """Events, and the cursor after them. `has_more` if more of them are there already.

    `cursors` has the cursor after each event.
    """

    events: list[Event]
    cursor: Cursor
    has_more: bool
    cursors: Sequence[Cursor] = ()

    def to_json(self) -> dict[str, object]:
        """As the reply shows it."""
        return {
            "items": [event.to_json() for event in self.events],
            "nextCursor": self.cursor.text,
        }


def parse_cursor(text: str) -> Cursor:
    """The cursor in a text. Raises RequestError INVALID_REQUEST."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise invalid_request({"after": "is not a cursor of this service; send a nextCursor"})
    return Cursor(*map(int, match.groups()))


def parse_types(text: str) -> frozenset[EventType]:
    """The types in a list that is separated by commas. Raises RequestError INVALID_REQUEST."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in set(EventType)]
    if unknown:
        raise invalid_request({"types": f"has the unknown type {unknown[0]!r}"})
    return frozenset(EventType(name) for name in names)


def latest_cursor(actor: Actor, customer_id: str) -> Cursor:
    """The cursor after the newest events.

    Raises RequestError FORBIDDEN or INVALID_CUSTOMER, or UNAVAILABLE if no event is known to be
    settled: then a cursor would be before all events.
    """
    require_for(actor, Action.READ_EVENTS, customer_id)
    settled, highest = horizon()
    if any(highest) and not any(settled):
        raise unavailable("A transaction of the database is open for too long.")
    return Cursor(settled.audit, 0, settled.sync, 0)


def read_events(
    actor: Actor,
    customer_id: str,
    after: Cursor,
    limit: int = PAGE_SIZE,
    types: Collection[EventType] | None = None,
    at: Horizon | None = None,
) -> EventPage:
    """The customer's events after a cursor, at most `limit`, in order.

    The cursor of the page also passes rows of other types. A caller that reads for many customers
    may give the horizon `at` which it reads. Raises RequestError FORBIDDEN or
    INVALID_CUSTOMER, or INVALID_REQUEST if the cursor is beyond the newest event: then the database
    was restored to an earlier state.
    """
    require_for(actor, Action.READ_EVENTS, customer_id)
    now = horizon() if at is None else at
    _require_reached(after, now)
    wanted = frozenset(EventType if types is None else types)
    size = limit if types is None else _MOST_ROWS
    audit_rows, sync_rows = _audit_rows(customer_id, wanted), _sync_rows(customer_id)
    audit, sync = now.settled
    to_audit = audit if types is None else _passed_up_to(customer_id, after.audit_id, audit)
    logs = (
        _read_log(audit_rows, AuditLog.id, after[:2], to_audit, size, is_cut=to_audit < audit),
        _read_log(sync_rows, SyncHistory.id, after[2:], sync, size),
    )
    return _merge((_audit_events, _sync_events), logs, limit, wanted)


def _passed_up_to(customer_id: str, after_id: int, settled: int) -> int:
    """The last row of the audit log that a page passes."""
    found: int | None = (
        AuditLog.select(AuditLog.id)
        .where(AuditLog.customerId == customer_id, AuditLog.id > after_id, AuditLog.id <= settled)
        .order_by(AuditLog.id)
        .offset(_MOST_PASSED)
        .limit(1)
        .scalar()
    )
    return settled if found is None else found


class _Log:
    """The rows of a log that were read for a page, in the order of their ids."""

    def __init__(
        self, rows: Sequence[Any], position: tuple[int, int], end: int, *, is_cut: bool
    ) -> None:
        self.rows = deque(rows)
        #: The last row that was given, and the number of its events, or 0 for all.
        self.position = position
        #: Where the log ends for this page.
        self.end = end
        self.is_cut = is_cut


def _require_reached(after: Cursor, now: Horizon) -> None:
    highest = now.highest
    if after.audit_id > highest.audit or after.sync_id > highest.sync:
        raise invalid_request(
            {
                "after": "is beyond the newest event: the database was restored to an earlier "
                f"state. Compare your data, then continue with after={LATEST}"
            }
        )


def _read_log(
    rows: Any, column: Any, after: tuple[int, int], up_to: int, size: int, *, is_cut: bool = False
) -> _Log:
    """The rows of a log after a position up to that id, at most `size`.

    `is_cut` if the log has more rows after `up_to`.
    """
    after_id, part = after
    is_next = column >= after_id if part else column > after_id
    found = list(rows.where(is_next, column <= up_to).order_by(column).limit(size + 1))
    if len(found) > size:
        return _Log(found[:size], after, found[size - 1].id, is_cut=True)
    return _Log(found, after, up_to, is_cut=is_cut)


def _merge(
    derive: Sequence[Callable[[Any], list[Event]]],
    logs: Sequence[_Log],
    limit: int,
    wanted: Collection[EventType],
) -> EventPage:
    """The events of both logs by time. Each log keeps its own order, even if a clock jumped."""
    page: list[Event] = []
    cursors: list[Cursor] = []
    while all(log.rows or not log.is_cut for log in logs):
        heads = [(log.rows[0].time, index) for index, log in enumerate(logs) if log.rows]
        if not heads:
            break
        index = min(heads)[1]
        log = logs[index]
        row = log.rows[0]
        given = log.position[1] if log.position[0] == row.id else 0
        for number, event in enumerate(derive[index](row), start=1):
            if number <= given or event.type not in wanted:
                continue
            if len(page) == limit:
                return EventPage(page, _cursor(logs), has_more=True, cursors=cursors)
            page.append(event)
            log.position = (row.id, number)
            cursors.append(_cursor(logs))
        log.position = (row.id, 0)
        log.rows.popleft()
    for log in logs:
        # This process may know fewer settled rows than the one that gave the cursor.
        if not log.rows and log.end >= log.position[0]:
            log.position = (log.end, 0)
    has_more = any(log.is_cut for log in logs)
    return EventPage(page, _cursor(logs), has_more, cursors)


def _cursor(logs: Sequence[_Log]) -> Cursor:
    return Cursor(*logs[0].position, *logs[1].position)


def _audit_rows(customer_id: str, wanted: Collection[EventType]) -> Any:
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


def _audit_events(row: Any) -> list[Event]:
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


def _sync_rows(customer_id: str) -> Any:
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


def _sync_events(row: Any) -> list[Event]:
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
