"""Replaces the database with another one while the service keeps running."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg import sql

from budget_sync.database.connection import (
    IMMUTABLE,
    close_connection,
    db,
    file_uri,
    open_connection,
    roll_back,
    sqlite3,
)
from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.locks import lock_name, process_lock
from budget_sync.database.maintenance.copy_file import Progress, copy_at, write_rows
from budget_sync.database.maintenance.migrate import copy_rows
from budget_sync.database.schema import (
    FILLED_TABLES,
    SCHEMA_VERSION,
    create_tables,
    schema_version,
    table_names,
)
from budget_sync.runtime import files

log = logging.getLogger(__name__)

#: How long to wait for running transactions, in seconds.
_LOCK_TIMEOUT_S = 60

# Checks write the first table, and movements lock the second one, before they write to or lock any
# other. So a transaction that waits for these locks holds no other lock.
_LOCKED_FIRST = ("BudgetCheckLog", "Budget")

#: How often to try to lock all tables.
_TRIES = 20


def replace_file(draft: Path, kept: Path) -> Path | None:
    """Move the database file to `kept` and `draft` into its place.

    Returns the path of the old file, which gets a numbered name if `kept` exists, or None if there
    was no database file.

    The writer lock is held, so all acknowledged writes are in the old file and the next write goes
    to the new one. The old write-ahead log is removed before the new file is in place, in an order
    that is safe in a power cut, because SQLite would replay a log into any file with that name.
    """
    path = db.file_path
    close_connection()
    with process_lock():
        _checkpoint_log(path)
        moved = files.rename_to_new(path, kept) if path.exists() else None
        try:
            log_file = _log_of(path)
            if log_file.exists() and log_file.stat().st_size:
                # A reader or a damaged page prevented the checkpoint, so the log stays with the old
                # file. A log without a file is left over from an interrupted restore.
                files.rename_to_new(log_file, _log_of(moved or kept))
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            sync_folder(path.parent)
            draft.rename(path)
        except BaseException:
            if moved:
                if _log_of(moved).exists():
                    _log_of(moved).rename(_log_of(path))
                moved.rename(path)
            raise
        sync_folder(path.parent)
    return moved


def _checkpoint_log(path: Path) -> None:
    """Copy the write-ahead log into the file, so that the file is complete without it.

    A damaged file is left unchanged.
    """
    if not path.exists():
        return
    try:
        with closing(
            sqlite3.connect(file_uri(path, "mode=rw"), uri=True, timeout=db.busy_timeout_s)
        ) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        log.warning("The checkpoint of the database to be replaced failed: %s", error)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that created and renamed files in it survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def replace_rows(
    draft: Path, kept: Path, verify: Callable[[], None], report_progress: Progress
) -> bool:
    """Replace all rows in PostgreSQL by those of the SQLite file `draft`, in one transaction.

    The old rows are saved to the empty file `kept`. Returns whether there were tables before.
    `verify` runs before the commit and raises an error to prevent it. Raises DatabaseUnusableError,
    and leaves the database unchanged, if the rows cannot be replaced.
    """
    try:
        version = _begin_exclusive()
        if version is None:
            create_tables()
        else:
            _save_and_delete_rows(kept, report_progress)
        with closing(sqlite3.connect(file_uri(draft, IMMUTABLE), uri=True)) as source:
            copy_rows(db.connection(), source)
        _set_append_only_triggers(enabled=True)
        verify()
        db.execute_sql("COMMIT")
    except (psycopg.Error, sqlite3.Error) as error:
        raise DatabaseUnusableError(
            f"The rows cannot be replaced and nothing was changed: {' '.join(str(error).split())}"
        ) from error
    finally:
        roll_back()
        close_connection()
    return version is not None


def _begin_exclusive() -> int | None:
    """Begin a transaction that blocks all other writers.

    Returns the schema version, or None if there are no tables yet. Other connections can read the
    old rows until the end. If another transaction takes locks in another order, PostgreSQL may
    report a deadlock here; then this function tries again.
    """
    for tries_left in reversed(range(_TRIES)):
        open_connection()
        db.execute_sql(
            "BEGIN; SET LOCAL statement_timeout = 0; "
            f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'; "
            "SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        lock_name("budget-sync schema")
        version = schema_version()
        if version is None:
            return None
        if version != SCHEMA_VERSION:
            raise DatabaseUnusableError(
                f"The database has schema version {version}. Run `flask upgrade-db` first."
            )
        try:
            others = (table for table in table_names() if table not in _LOCKED_FIRST)
            names = sql.SQL(", ").join(map(sql.Identifier, [*_LOCKED_FIRST, *others]))
            db.connection().execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(names))
        except psycopg.errors.DeadlockDetected:
            roll_back()
            if not tries_left:
                raise
            time.sleep(random.uniform(0, 0.1))  # noqa: S311  # no secret
        else:
            break
    return version


def _save_and_delete_rows(kept: Path, report_progress: Progress) -> None:
    """Write all rows to the file `kept`, then delete them."""
    with copy_at(kept, "Nothing was changed, because the old rows could not be saved") as target:
        write_rows(target, report_progress)
    _set_append_only_triggers(enabled=False)
    # Not TRUNCATE, which would wait for readers, and readers may be waiting for this transaction.
    for table in reversed(table_names()):
        if table not in FILLED_TABLES:
            db.connection().execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))


def _set_append_only_triggers(*, enabled: bool) -> None:
    """Enable or disable the append-only triggers; disabled only while all rows are replaced."""
    for table in ("AuditLog", "BudgetCheckLog"):
        db.connection().execute(
            sql.SQL("ALTER TABLE {} {} TRIGGER USER").format(
                sql.Identifier(table), sql.SQL("ENABLE" if enabled else "DISABLE")
            )
        )
