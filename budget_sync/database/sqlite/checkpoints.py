"""Checkpoints of SQLite's write-ahead log, out of the way of those who write.

A checkpoint copies changed pages back to the database file and syncs it, which takes from milliseconds to a second. SQLite
makes it within the commit that fills the log, and everybody waits. Here a thread of its own makes it beside the commits. The
log begins anew once a checkpoint met its end, which new commits keep moving away; so what they added meanwhile, which is
little, is copied while nobody writes. Neither ever waits for a reader: what one still needs stays for the next checkpoint.
"""

from __future__ import annotations

import logging
import threading

import peewee

from budget_sync.database.connection import close_connection, db, open_connection
from budget_sync.database.locks import process_lock

log = logging.getLogger(__name__)

#: Changed rows of one process from which a checkpoint is due, of one to two pages each in the log, 4 KiB a page: a page that
#: many commits change goes back once for all of them. How long the log is, one cannot see: who opens and closes one of
#: SQLite's files beside SQLite lets go of its locks, as POSIX has it, and the next process would take the files for nobody's.
DUE_ROWS = 4000


class Checkpointer:
    """Makes checkpoints for one process's writer. Its thread is started with the first, so never before a fork."""

    def __init__(self) -> None:
        self._rows_before = 0
        self._due = threading.Event()
        self._thread: threading.Thread | None = None

    def committed(self, rows: int) -> None:
        """A batch was committed; called by the writer's thread alone, with how many rows its connection has changed since it was opened."""
        if rows < self._rows_before:
            # Another connection than last time.
            self._rows_before = 0
        if rows - self._rows_before < DUE_ROWS:
            return
        self._rows_before = rows
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._serve, name="budget-sync-checkpoints", daemon=True
            )
            self._thread.start()
        self._due.set()

    def _serve(self) -> None:
        while self._due.wait():
            self._due.clear()
            checkpoint()


def checkpoint() -> None:
    """Copy back what is in the log. Where that fails, nothing is lost but time: the log goes on."""
    try:
        open_connection()
        _copy_back()
        with process_lock():
            _copy_back()
    except (peewee.PeeweeException, OSError):
        log.warning(
            "A checkpoint failed; the write-ahead log grows on until one succeeds.", exc_info=True
        )
        close_connection()


def _copy_back() -> None:
    db.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
