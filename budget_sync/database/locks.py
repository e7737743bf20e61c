"""Locks: of who writes to SQLite; of rows and names on PostgreSQL; and the one that a sync pass holds.

On SQLite one transaction writes at a time, so nothing in it needs a lock. On PostgreSQL, transactions run side by side, and
each statement sees what was committed when it began: before it waited for a lock, that is. So whoever decides from a row
reads it with `locked`: then PostgreSQL reads the newest version of every row that it locked, and what the transaction's next
statements read is newer still. A budget and its utilisation are locked together, the budget first, by everyone who changes
either; so neither can change under whoever holds them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from budget_sync.database.connection import DatabaseProblem, close_connection, db, open_connection
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.runtime import files

# Not FOR UPDATE: the foreign keys of a check that is just being logged need the budget's key, and that stays as it is.
_LOCK = "FOR NO KEY UPDATE"


def locked(query: Any) -> Any:
    """The select, with all rows it reads locked until the transaction ends; rows that it locks are read as they are then."""
    return query.for_update(_LOCK) if isinstance(db.obj, PostgresServer) else query


def lock_name(name: str) -> None:
    """Be the one transaction that works on what has that name, where there may be no row yet that could be locked."""
    if isinstance(db.obj, PostgresServer):
        db.execute_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,)).fetchall()


@contextmanager
def process_lock() -> Iterator[None]:
    """Be the one process that writes; fair between processes, without polling.

    One flock alone is not fair: who releases it takes it again before the waiting process wakes. So there is a turnstile in
    front, which is passed only while nobody waits before it. A process that is killed releases both.
    """
    turnstile = _open_beside("turnstile")
    try:
        lock = _open_beside("lock")
        try:
            fcntl.flock(turnstile, fcntl.LOCK_EX)
            fcntl.flock(lock, fcntl.LOCK_EX)
            fcntl.flock(turnstile, fcntl.LOCK_UN)
            yield
        finally:
            os.close(lock)
    finally:
        os.close(turnstile)


def _open_beside(suffix: str) -> int:
    return files.open_or_make(db.file_path.with_name(f"{db.file_path.name}.{suffix}"))


def require_writable() -> None:
    """Raises DatabaseProblem where this process could not write: the database's file, or one of the locks', is closed to it.

    Nothing is locked, and nobody is waited for. On PostgreSQL that is for the server to say, with the first write.
    """
    if isinstance(db.obj, PostgresServer):
        return
    try:
        for suffix in ("turnstile", "lock"):
            os.close(_open_beside(suffix))
    except OSError as error:
        raise DatabaseProblem(f"The database {db.file_path} cannot be written: {error}.") from error
    # SQLite would open it to be read, and refuse the first write.
    if not os.access(db.file_path, os.W_OK):
        raise DatabaseProblem(
            f"The database {db.file_path} cannot be written: its file is read-only to this process."
        )


@contextmanager
def held_alone(name: str, folder: Path) -> Iterator[bool]:
    """Hold a name for longer than a transaction; gives False where another holds it. It is let go of when the process ends, however it ends.

    On SQLite the holders are the processes that share the folder, on PostgreSQL all that share the database.
    """
    if isinstance(db.obj, PostgresServer):
        open_connection()
        connection = db.connection()
        (got,) = connection.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)
        ).fetchone()
        try:
            yield got
        finally:
            if got:
                try:
                    connection.execute(
                        "SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,)
                    )
                except psycopg.Error:
                    # A connection that was lost has let go already.
                    close_connection()
        return
    file = files.open_or_make(folder / f"{name}.lock")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(file)
