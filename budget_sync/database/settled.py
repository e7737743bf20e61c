"""Which rows of a log are settled: no row with a lower id can appear later.

In SQLite, writers take turns, so ids appear in their order. In PostgreSQL, a transaction may take
an id and commit after one with a higher id. A reader that continues after the highest id that it
saw would miss that row for good.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from budget_sync.database.connection import db, is_file
from budget_sync.runtime import greenlets

#: The logs that are read in the order of their ids.
LOGS = ("AuditLog", "SyncHistory")

# `horizon` waits for open transactions in steps of this many seconds.
_STEP_S = 0.02

# The transactions of PostgreSQL: the oldest open one among those below the second number, one past
# the newest that has ended, and how many numbers after 3 were given out (32 bits). The second
# number is not the next one: newer transactions may be open. `age` reads the next one without
# taking it, newly in each transaction.
_TRANSACTIONS = """
    SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint, age('3'::xid)
    FROM pg_current_snapshot() s
"""
_32_BITS = 0xFFFF_FFFF


class LogIds(NamedTuple):
    """An id of each log, in the order of LOGS."""

    audit: int
    sync: int


class Horizon(NamedTuple):
    """The ids up to which all rows are settled, and the highest ids that were given out."""

    settled: LogIds
    highest: LogIds


class _Pending(NamedTuple):
    """Ids that are settled once every transaction below `transaction` has ended."""

    ids: LogIds
    transaction: int


class _Settling:
    """What one process knows of the settled ids. They only grow, except after a restore."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.settled: LogIds | None = None
        self.pending: _Pending | None = None

    def update(
        self, known: LogIds | None, ids: LogIds, oldest_open: int, next_transaction: int
    ) -> LogIds | None:
        """Take in what was read: the highest ids given out, and after that, the transactions.

        `known` is what was settled before. A transaction gets its number before it takes an id,
        because it locks a budget or a source first. So a transaction that took one of `ids` has a
        number below `next_transaction`, which was not given out yet.
        """
        with self.lock:
            if known and not _reaches(ids, known):
                # The database was restored to an earlier state.
                self.settled = self.pending = None
            elif self.settled and not _reaches(ids, self.settled):
                # Another thread read later and was faster.
                return self.settled
            if oldest_open >= next_transaction:
                self.settled, self.pending = ids, None
            elif self.pending is None:
                self.pending = _Pending(ids, next_transaction)
            elif oldest_open >= self.pending.transaction:
                self.settled, self.pending = self.pending.ids, _Pending(ids, next_transaction)
            return self.settled


def _reaches(ids: LogIds, others: LogIds) -> bool:
    return ids.audit >= others.audit and ids.sync >= others.sync


_settling = _Settling()


def horizon(timeout_s: float = 2.0) -> Horizon:
    """The settled ids and the highest ids of the logs.

    In PostgreSQL, it waits up to `timeout_s` for open transactions if this process does not know
    any settled id yet. A long transaction anywhere in the same cluster delays the ids after it.
    """
    if is_file():
        newest = [f'SELECT MAX("id") FROM "{log}"' for log in LOGS]  # noqa: S608  # constants
        ids = LogIds(*(_scalar(sql) for sql in newest))
        return Horizon(ids, ids)
    deadline = time.monotonic() + timeout_s
    while True:
        known = _settling.settled
        ids = LogIds(
            *(
                _scalar(
                    f"""SELECT pg_sequence_last_value(pg_get_serial_sequence('"{log}"', 'id'))"""
                )
                for log in LOGS
            )
        )
        oldest_open, after_newest_ended, age_of_3 = db.execute_sql(_TRANSACTIONS).fetchone()
        newer = (age_of_3 + 3 - after_newest_ended) & _32_BITS
        settled = _settling.update(known, ids, oldest_open, after_newest_ended + newer)
        if settled is not None:
            return Horizon(settled, ids)
        if time.monotonic() > deadline:
            return Horizon(LogIds(0, 0), ids)
        greenlets.sleep(_STEP_S)


def _scalar(sql: str) -> int:
    """The only value of a query without parameters; 0 for null."""
    return db.execute_sql(sql).fetchone()[0] or 0
