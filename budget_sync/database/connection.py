"""Connections: one per thread to SQLite, or one from a pool to PostgreSQL; and what errors mean."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee

from budget_sync.database.errors import DatabaseUnusableError, unavailable
from budget_sync.database.postgres.pool import (
    MAX_GREENLET_CONNECTIONS,
    PostgresServer,
    unavailable_reason,
)
from budget_sync.domain.errors import RequestError
from budget_sync.runtime import files

log = logging.getLogger(__name__)

#: The SQLite module that Peewee chose: pysqlite3 if installed, otherwise Python's sqlite3.
sqlite3: Any = peewee.sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs

#: Every model is bound to this proxy; `connect` sets the database behind it.
db = peewee.DatabaseProxy()

_PRAGMAS = {
    "journal_mode": "wal",
    # FULL, not NORMAL: in WAL mode NORMAL does not sync on commit, so a power cut could undo
    # transactions that were acknowledged.
    "synchronous": "full",
    "foreign_keys": 1,
    # INSERT OR REPLACE must fire the append-only triggers too.
    "recursive_triggers": 1,
    # In pages: 64 MB. Checkpoints usually run in their own thread (see `sqlite.checkpoints`); this
    # limit applies only if they cannot keep up.
    "wal_autocheckpoint": 16000,
}

# SQLite's primary result codes that mean "not now" or "not on this disk" rather than a bug in our
# SQL: busy, locked, out of memory, read-only, interrupted, I/O error, corrupt, full, cannot be
# opened, locking protocol, not a database.
_UNAVAILABLE_CODES = {5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 26}

#: URI options for a file that does not change: SQLite only reads it and creates no other files.
IMMUTABLE = "mode=ro&immutable=1"


class SqliteFile(peewee.SqliteDatabase):
    """An SQLite database that knows its file and how long to wait for a lock, in seconds."""

    def __init__(self, file_path: Path, busy_timeout_s: float, *args: Any, **kwargs: Any) -> None:
        self.file_path = file_path
        self.file_name = str(file_path)
        self.busy_timeout_s = busy_timeout_s
        super().__init__(*args, **kwargs)

    def execute_prepared(self, sql: str, parameters: Sequence[object]) -> Any:
        """Run a statement and return its cursor.

        Peewee's own bookkeeping around a short statement costs half as much again as the statement.
        """
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            return self.connection().execute(sql, parameters)  # type: ignore[no-untyped-call]

    write_prepared = execute_prepared

    def execute_both_prepared(
        self, first: tuple[str, Sequence[object]], second: tuple[str, Sequence[object]]
    ) -> list[Any]:
        """Run two statements, each given as SQL and values; return their cursors."""
        execute = self.connection().execute  # type: ignore[no-untyped-call]
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            return [execute(*first), execute(*second)]


class _State(threading.local):
    """The device and inode of the file that this thread's connection was opened on."""

    file_id: tuple[int, int] | None = None


_state = _State()


def check_library(version: tuple[int, ...] | None = None) -> None:
    """Check that the SQLite library cannot lose commits by the WAL-reset race.

    Raises DatabaseUnusableError if it can.

    Versions 3.7.0 to 3.51.2 are affected, except 3.50.7 and 3.44.6 and later patches of those two.
    See "the WAL-reset bug" in SQLite's documentation of WAL mode.
    """
    version = version or library_version()
    fixed = (
        version >= (3, 51, 3)
        or (3, 50, 7) <= version < (3, 51)
        or (3, 44, 6) <= version < (3, 45)
        or version < (3, 7)
    )
    if not fixed:
        raise DatabaseUnusableError(
            f"SQLite {'.'.join(map(str, version))} can lose committed transactions (fixed in "
            "3.51.3, 3.50.7 and 3.44.6). Install the pinned requirements: their pysqlite3 contains "
            "a fixed version."
        )


def library_version() -> tuple[int, ...]:
    """The version of the SQLite library in use."""
    return tuple(sqlite3.sqlite_version_info)


def connect(target: Path | str, *, busy_timeout_s: float = 5.0, create: bool = False) -> None:
    """Bind `db` to an SQLite file or to the database of a postgresql:// URL.

    No connection is opened yet. A missing file is created only with `create`: empty, and readable
    only by its owner.
    """
    if db.obj is not None:
        disconnect()
    db.initialize(
        PostgresServer(target, busy_timeout_s)
        if isinstance(target, str)
        else _sqlite(target, busy_timeout_s)
    )
    if create and isinstance(target, Path) and not target.exists():
        # SQLite accepts an empty file as a database without tables. A file that SQLite itself
        # creates would belong to the user that runs this process, which may be root.
        os.close(files.open_or_create(target))


def max_concurrent_calls(target: Path | str) -> int | None:
    """How many greenlets may use that database at once; None for no limit."""
    return MAX_GREENLET_CONNECTIONS if isinstance(target, str) else None


def file_uri(path: Path, options: str) -> str:
    """The URI that opens an SQLite file with these options; special characters are escaped."""
    return f"{path.absolute().as_uri()}?{options}"


def _sqlite(path: Path, busy_timeout_s: float) -> SqliteFile:
    check_library()
    return SqliteFile(
        path,
        busy_timeout_s,
        file_uri(path, "mode=rw"),
        uri=True,
        pragmas=_PRAGMAS,
        timeout=busy_timeout_s,
        # A deferred transaction that reads and then writes fails at once if another connection
        # wrote in between, regardless of the timeout.
        lock_type="IMMEDIATE",
    )


@contextmanager
def connected_to(path: Path, *, immutable: bool = False) -> Iterator[None]:
    """Bind `db` to another SQLite file for the duration of the context.

    With `immutable`, the file is opened read-only, is assumed not to change, and SQLite creates no
    files next to it.
    """
    previous = db.obj
    close_connection()
    db.initialize(
        SqliteFile(path, 0.0, file_uri(path, IMMUTABLE), uri=True)
        if immutable
        else _sqlite(path, 5.0)
    )
    try:
        yield
    finally:
        close_connection()
        db.initialize(previous)


def is_file() -> bool:
    """Whether the database is an SQLite file rather than a PostgreSQL server."""
    return isinstance(db.obj, SqliteFile)


def label() -> str:
    """The name of the database for people: its file, or its URL without user and password."""
    return db.obj.label if isinstance(db.obj, PostgresServer) else str(db.file_path)


def wal_size() -> int:
    """The size of SQLite's write-ahead log in bytes; 0 without a log."""
    try:
        size: int = db.file_path.with_name(f"{db.file_path.name}-wal").stat().st_size
    except OSError:
        return 0
    return size


def open_connection() -> None:
    """Make sure that this thread has an open connection to the current database.

    A connection is kept for the thread's next request, except when its SQLite file was moved or
    replaced (its writes would be lost with the old file) or when PostgreSQL has closed it. Raises
    peewee.OperationalError if the database cannot be opened.
    """
    if isinstance(db.obj, PostgresServer):
        db.forget_inherited_connections()
        if db.is_lost:
            close_connection()
        if db.is_closed():
            db.connect()
        return
    try:
        # os.stat, not Path.stat, which takes twice as long: this runs in every request.
        status = os.stat(db.file_name)  # noqa: PTH116
        file_id: tuple[int, int] | None = (status.st_dev, status.st_ino)
    except OSError:
        file_id = None
    if not db.is_closed() and (file_id is None or file_id != _state.file_id):
        close_connection()
    if db.is_closed():
        db.connect()
        if file_id is None:
            status = db.file_path.stat()
            file_id = (status.st_dev, status.st_ino)
        _state.file_id = file_id


def close_connection() -> None:
    """Close this thread's connection, if it has one. An error while closing is only logged.

    A process without a database has none.
    """
    try:
        if db.obj is not None and not db.is_closed():
            db.close()
    except peewee.PeeweeException:
        log.warning("The database connection could not be closed cleanly.", exc_info=True)


def end_request() -> None:
    """Return a pooled connection, because the thread may never run again. SQLite's is kept open."""
    if isinstance(db.obj, PostgresServer):
        close_connection()


def disconnect() -> None:
    """Close this thread's connection and the idle connections of the pool."""
    close_connection()
    if isinstance(db.obj, PostgresServer):
        db.close_idle()


def roll_back() -> None:
    """Roll back the open transaction, if there is one; close a connection that cannot.

    A full disk or an I/O error may already have ended the transaction.
    """
    try:
        if not db.is_closed() and (
            isinstance(db.obj, PostgresServer) or db.connection().in_transaction
        ):
            db.rollback()
    except peewee.PeeweeException:
        log.warning("A rollback failed; closing the connection.", exc_info=True)
        close_connection()


@contextmanager
def snapshot() -> Iterator[None]:
    """All queries inside see the same state of the database; writers are not blocked."""
    open_connection()
    if isinstance(db.obj, PostgresServer):
        # A consistency check of a million reservations takes long but blocks no other transaction.
        db.execute_sql(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0"
        )
    else:
        db.execute_sql("BEGIN DEFERRED")
    try:
        yield
    finally:
        roll_back()


def unavailable_error(error: peewee.PeeweeException) -> RequestError | None:
    """The RequestError for a database that is busy, full or down; None for any other error."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorcode", None)
    if code is None:
        is_unavailable = unavailable_reason(error) is not None
    else:
        is_unavailable = (code & 0xFF) in _UNAVAILABLE_CODES or _has_no_tables(error)
    if not is_unavailable:
        return None
    result = unavailable("The database is not available right now.")
    # For the log and for the error messages of commands.
    result.__cause__ = error
    return result


def _has_no_tables(error: peewee.PeeweeException) -> bool:
    """Whether a query failed because the database was replaced by a file without our tables."""
    try:
        return str(error).startswith("no such table") and not db.table_exists("SchemaVersion")
    except peewee.PeeweeException:
        return False
