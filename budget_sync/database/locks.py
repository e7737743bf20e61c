"""Locks: SQLite's writer lock between processes, row and name locks on PostgreSQL.

SQLite runs one write transaction at a time, so code inside a transaction needs no lock. PostgreSQL
runs transactions concurrently, and each statement sees the data that was committed when the
statement began, which may be before it waited for a lock. So code that decides from a row must read
the row with `locked`: PostgreSQL then reads the newest version of every row that it locks, and
later statements of the transaction read data that is at least as new.

A budget and its utilization row are always locked together, the budget first, by every transaction
that changes either of them. Neither can change while a transaction holds both.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from budget_sync.database.connection import db, open_connection
from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.database.sqlite.moved import require_not_moved
from budget_sync.runtime import files

# Not FOR UPDATE: the foreign key of a check that is being logged needs the budget's key, which does
# not change.
_LOCK_MODE = "FOR NO KEY UPDATE"


def locked(query: Any) -> Any:
    """The query with all its rows locked until the transaction ends.

    PostgreSQL reads each locked row again after it waited for the lock. SQLite needs no lock.
    """
    return query.for_update(_LOCK_MODE) if isinstance(db.obj, PostgresServer) else query


def locked_for_deletion(query: Any) -> Any:
    """The query with all its rows locked, also against rows that refer to them.

    For rows that the transaction deletes: a check that is being logged refers to its budget.
    """
    return query.for_update("FOR UPDATE") if isinstance(db.obj, PostgresServer) else query


def lock_name(name: str) -> None:
    """Hold a lock on a name until the transaction ends. For data that may have no row to lock."""
    if isinstance(db.obj, PostgresServer):
        db.execute_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,)).fetchall()


@contextmanager
def process_lock() -> Iterator[None]:
    """Hold SQLite's writer lock between processes; fair, and without polling.

    A single flock is not fair: a process that releases it takes it again before the waiting process
    wakes up. So a second lock, the turnstile, comes first, and a process passes it only when no
    other process is waiting there. The system releases both when a process is killed.
    """
    turnstile = _open_lock_file("turnstile")
    try:
        lock = _open_lock_file("lock")
        try:
            fcntl.flock(turnstile, fcntl.LOCK_EX)
            fcntl.flock(lock, fcntl.LOCK_EX)
            fcntl.flock(turnstile, fcntl.LOCK_UN)
            yield
        finally:
            os.close(lock)
    finally:
        os.close(turnstile)


def _open_lock_file(suffix: str) -> int:
    return files.open_or_create(db.file_path.with_name(f"{db.file_path.name}.{suffix}"))


def require_writable() -> None:
    """Raises DatabaseUnusableError if this process may not write the SQLite file or its lock files.

    Also if the file was copied to another database. It takes no lock and never waits. PostgreSQL is
    not checked: it rejects the first write.
    """
    if isinstance(db.obj, PostgresServer):
        return
    try:
        for suffix in ("turnstile", "lock"):
            os.close(_open_lock_file(suffix))
    except OSError as error:
        raise DatabaseUnusableError(
            f"The database {db.file_path} cannot be written: {error}. "
            "Check the owner and the permissions of its folder and files."
        ) from error
    # SQLite would open the file read-only and reject the first write.
    if not os.access(db.file_path, os.W_OK):
        raise DatabaseUnusableError(
            f"The database {db.file_path} cannot be written: the file is read-only for this "
            "process. Check its owner and permissions."
        )
    open_connection()
    require_not_moved()
