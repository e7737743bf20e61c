"""Which webhooks and alerts may have something new, without a query for each of them."""

from __future__ import annotations

import time
from typing import Any, Protocol

from peewee import fn

from budget_sync.database import Horizon, LogIds
from budget_sync.database.models import AuditLog, SyncHistory
from budget_sync.queries.events import Cursor, parse_cursor

#: How long the sync runs of a reader wait if one of them has not ended, in seconds.
UNFINISHED_S = 2.0

_NOTHING = LogIds(0, 0)


class Reader(Protocol):
    """A webhook or an alert: it reads the events of a customer from its cursor on."""

    id: Any
    customerId: Any
    cursor: Any


class News:
    """The newest rows of each customer, and how far each of their readers has read."""

    def __init__(self) -> None:
        self._start: LogIds | None = None
        #: Up to here, the rows are in `_newest`.
        self._read = _NOTHING
        self._newest: dict[str, LogIds] = {}
        # The stored cursor of each reader, and how far it has read from there.
        self._passed: dict[str, tuple[str, Cursor]] = {}
        #: Until when the sync runs of a reader wait, because one has not ended.
        self._runs_wait_until: dict[str, float] = {}

    def read(self, at: Horizon) -> None:
        """Note which customers have new rows, with one query per log."""
        settled = at.settled
        if self._start is None or not _is_within(self._read, settled):
            # This process has just started, or the database was restored to an earlier state.
            self._start = self._read = settled
            self._newest.clear()
            self._passed.clear()
            return
        audit = _newest_rows(AuditLog, self._read.audit, settled.audit)
        sync = _newest_rows(SyncHistory, self._read.sync, settled.sync)
        for customer_id in audit.keys() | sync.keys():
            before = self._newest.get(customer_id, self._start)
            self._newest[customer_id] = LogIds(
                audit.get(customer_id, before.audit), sync.get(customer_id, before.sync)
            )
        self._read = settled

    def position(self, reader: Reader) -> Cursor:
        """How far a reader has read, which may be beyond its stored cursor."""
        stored, position = self._passed.get(reader.id, ("", Cursor()))
        if stored == reader.cursor and _is_within(
            LogIds(position.audit_id, position.sync_id), self._read
        ):
            return position
        return parse_cursor(reader.cursor)

    def has_any(self, reader: Reader) -> bool:
        """Whether there may be events after the reader's position."""
        newest = self._newest.get(reader.customerId, self._start or _NOTHING)
        position = self.position(reader)
        runs_wait = time.monotonic() < self._runs_wait_until.get(reader.id, 0.0)
        return bool(
            newest.audit > position.audit_id
            or (newest.sync > position.sync_id and not runs_wait)
            or position.audit_part
            or position.sync_part
        )

    def note_unfinished_run(self, reader: Reader) -> None:
        """Let the sync runs of a reader wait: it would find nothing in each round."""
        self._runs_wait_until[reader.id] = time.monotonic() + UNFINISHED_S

    def note_position(self, reader: Reader, position: Cursor) -> int:
        """Note how far a reader has read; returns the rows between that and its stored cursor."""
        self._passed[reader.id] = (reader.cursor, position)
        stored = parse_cursor(reader.cursor)
        return position.audit_id - stored.audit_id + position.sync_id - stored.sync_id


def _is_within(ids: LogIds, limit: LogIds) -> bool:
    return ids.audit <= limit.audit and ids.sync <= limit.sync


def _newest_rows(table: Any, after: int, up_to: int) -> dict[str, int]:
    """The newest row of each customer among those of a range."""
    if up_to <= after:
        return {}
    rows = (
        table.select(table.customerId, fn.MAX(table.id).alias("newest"))
        .where(table.id > after, table.id <= up_to, table.customerId.is_null(False))
        .group_by(table.customerId)
    )
    return {row.customerId: row.newest for row in rows}
