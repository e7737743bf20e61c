"""Putting another database in the place of the one that is there, under a service that goes on running."""

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
    AS_IT_LIES,
    DatabaseProblem,
    close_connection,
    db,
    file_uri,
    open_connection,
    roll_back,
    sqlite3,
)
from budget_sync.database.locks import lock_name, process_lock
from budget_sync.database.maintenance.copy_file import Tell, copy_at, write_rows
from budget_sync.database.maintenance.migrate import fill, tables
from budget_sync.database.schema import SCHEMA_VERSION, make_tables, schema_version
from budget_sync.runtime import files

log = logging.getLogger(__name__)

#: Seconds to wait for transactions that are under way.
_PATIENCE_S = 60

# What checks write, and what movements lock, before they touch another table for more than reading: who waits for these holds nothing else.
_FIRST = ("BudgetCheckLog", "Budget")

#: How often all locks are asked for.
_TRIES = 20


def replace_file(draft: Path, kept: Path) -> Path | None:
    """Move the database's file to `kept`, or to a numbered name where that is taken, and `draft` into its place; returns where it is now, if there was one.

    The lock that all writers take is held meanwhile: what was acknowledged is in the old file, and the next write finds the
    new one. The old log goes before the new file comes, in an order that holds through a power cut: SQLite would
    play a log that it finds back into whatever file lies beside it.
    """
    path = db.file_path
    close_connection()
    with process_lock():
        _settle(path)
        moved = files.rename_to_new(path, kept) if path.exists() else None
        try:
            log_file = _log_of(path)
            if log_file.exists() and log_file.stat().st_size:
                # A reader, or damage, kept the log from being played into the old file: it stays that file's own. One without a file
                # is of a restore that was cut off.
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


def _settle(path: Path) -> None:
    """Have the log played into the file, so that the file is whole by itself; a damaged one stays as it is."""
    if not path.exists():
        return
    try:
        with closing(
            sqlite3.connect(file_uri(path, "mode=rw"), uri=True, timeout=db.patience_s)
        ) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        log.warning("The database to be replaced could not be settled: %s", error)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def sync_folder(folder: Path) -> None:
    """See to it that the names in a folder are on disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def replace_rows(draft: Path, kept: Path, prove: Callable[[], None], tell: Tell) -> bool:
    """Put the rows of the SQLite file `draft` into PostgreSQL instead of those that are there, in one transaction.

    What was there goes to the empty file `kept`; returns whether there was anything. `prove` raises what the new rows must
    not be committed with. Raises DatabaseProblem, with the database as it was, where this cannot be done.
    """
    try:
        version = _begin_alone()
        if version is None:
            make_tables()
        else:
            _empty(kept, tell)
        with closing(sqlite3.connect(file_uri(draft, AS_IT_LIES), uri=True)) as source:
            fill(db.connection(), source)
        _guard(on=True)
        prove()
        db.execute_sql("COMMIT")
    except (psycopg.Error, sqlite3.Error) as error:
        raise DatabaseProblem(
            f"The rows could not be put in, and nothing was changed: {' '.join(str(error).split())}"
        ) from error
    finally:
        roll_back()
        close_connection()
    return version is not None


def _begin_alone() -> int | None:
    """Begin a transaction in which nobody else writes; returns the schema version, None where there are no tables yet.

    Others go on reading what was there until the end. Where somebody takes locks in another order than these, this may have to
    give way: then it begins anew.
    """
    for tries_left in reversed(range(_TRIES)):
        open_connection()
        db.execute_sql(
            f"BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{_PATIENCE_S}s'; SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        lock_name("budget-sync schema")
        version = schema_version()
        if version is None:
            return None
        if version != SCHEMA_VERSION:
            raise DatabaseProblem(
                f"The database is of schema version {version}: run `flask upgrade-db` first."
            )
        try:
            names = sql.SQL(", ").join(
                map(
                    sql.Identifier, [*_FIRST, *(table for table in tables() if table not in _FIRST)]
                )
            )
            db.connection().execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(names))
        except psycopg.errors.DeadlockDetected:
            roll_back()
            if not tries_left:
                raise
            time.sleep(random.uniform(0, 0.1))  # noqa: S311  # no secret
        else:
            break
    return version


def _empty(kept: Path, tell: Tell) -> None:
    """Keep what is there, and take it away."""
    with copy_at(kept, "Nothing was changed, since what is there could not be kept") as target:
        write_rows(target, tell)
    _guard(on=False)
    # Not TRUNCATE, which would have to wait for readers, who may be waiting for this.
    for table in reversed(tables()):
        db.connection().execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))


def _guard(*, on: bool) -> None:
    """Whether the append-only triggers stand guard; switched off for the one transaction that replaces everything."""
    for table in ("AuditLog", "BudgetCheckLog"):
        db.connection().execute(
            sql.SQL("ALTER TABLE {} {} TRIGGER USER").format(
                sql.Identifier(table), sql.SQL("ENABLE" if on else "DISABLE")
            )
        )
