"""Checkpoints of SQLite's write-ahead log in a separate thread, so that writers do not wait.

A checkpoint copies changed pages back to the database file and syncs it, which takes from
milliseconds to a second. By default SQLite does this inside the commit that fills the log, and all
writers wait. Here a thread does it alongside the commits. The log restarts only when a checkpoint
has reached its end, and new commits keep moving the end. So a second checkpoint, which has little
to copy, runs while the writer lock is held. Neither checkpoint waits for readers: pages that a
reader still needs stay in the log until the next checkpoint.
"""

from __future__ import annotations

import logging
import threading

import peewee

from budget_sync.database.connection import close_connection, db, open_connection
from budget_sync.database.locks import process_lock

log = logging.getLogger(__name__)

#: Run a checkpoint after this process has changed this many rows. A row takes one or two pages of
#: 4 KiB in the log; a page that many commits change is copied back only once. The size of the log
#: file is no alternative: POSIX releases all of a process's locks on a file when the process closes
#: any descriptor of it. So opening and closing one of SQLite's files outside SQLite would release
#: SQLite's locks, and the next process would believe that no process uses the database.
DUE_ROWS = 4000


class Checkpointer:
    """Runs checkpoints for the writer of one process.

    Its thread starts with the first checkpoint, so never before a fork.
    """

    def __init__(self) -> None:
        self._rows_at_last_checkpoint = 0
        self._is_due = threading.Event()
        self._thread: threading.Thread | None = None

    def batch_committed(self, total_rows: int) -> None:
        """Start a checkpoint if it is due. Called by the writer thread after each commit.

        `total_rows` is the number of rows that the writer's connection has changed so far.
        """
        if total_rows < self._rows_at_last_checkpoint:
            # The writer has opened a new connection, which counts from zero.
            self._rows_at_last_checkpoint = 0
        if total_rows - self._rows_at_last_checkpoint < DUE_ROWS:
            return
        self._rows_at_last_checkpoint = total_rows
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._run, name="budget-sync-checkpoints", daemon=True
            )
            self._thread.start()
        self._is_due.set()

    def _run(self) -> None:
        while self._is_due.wait():
            self._is_due.clear()
            checkpoint()


def checkpoint() -> None:
    """Copy the log back to the database file. A failure is only logged: the log keeps the data."""
    try:
        open_connection()
        _copy_back()
        with process_lock():
            _copy_back()
    except (peewee.PeeweeException, OSError):
        log.warning(
            "A checkpoint failed; the write-ahead log keeps growing until one succeeds.",
            exc_info=True,
        )
        close_connection()


def _copy_back() -> None:
    db.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
