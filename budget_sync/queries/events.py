"""The events of a customer, in order: the audit log and the sync runs, with a cursor.

Events are not stored. Each is derived from a row that is there anyway, so a client that keeps its
cursor gets every event once.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from budget_sync.database import horizon, unavailable
from budget_sync.database.models import AuditLog, SyncHistory
from budget_sync.database.settled import Horizon
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.events import EventType
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import event_rows
from budget_sync.queries.event_rows import Event
from budget_sync.queries.sync_runs import before_unfinished

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
    # The row of a run in parts is replaced, on SQLite by one with the same id.
    return Cursor(settled.audit, 0, before_unfinished(customer_id, 0, settled.sync), 0)


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
    audit_rows = event_rows.audit_rows(customer_id, wanted)
    sync_rows = event_rows.sync_rows(customer_id)
    audit, sync = now.settled
    sync = before_unfinished(customer_id, after.sync_id, sync)
    to_audit = audit if types is None else _passed_up_to(customer_id, after.audit_id, audit)
    logs = (
        _read_log(audit_rows, AuditLog.id, after[:2], to_audit, size, is_cut=to_audit < audit),
        _read_log(sync_rows, SyncHistory.id, after[2:], sync, size),
    )
    return _merge((event_rows.audit_events, event_rows.sync_events), logs, limit, wanted)


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
