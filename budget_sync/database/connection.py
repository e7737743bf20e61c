"""One connection a thread, to SQLite set for durability or to PostgreSQL from a pool, and what its errors mean to a caller."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee

from budget_sync.database.postgres.pool import SHARED_CONNECTIONS, PostgresServer, trouble
from budget_sync.domain.errors import Code, RequestError
from budget_sync.runtime import files

log = logging.getLogger(__name__)

#: The SQLite module that Peewee chose: pysqlite3, or else Python's own.
sqlite3: Any = peewee.sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs

#: Every model is bound to this; `connect` says which database it stands for.
db = peewee.DatabaseProxy()

#: Seconds a client should wait after "busy, full or down".
RETRY_AFTER_S = 2

_PRAGMAS = {
    "journal_mode": "wal",
    # FULL, not NORMAL: in WAL mode NORMAL does not sync on commit, and a power cut could take back what was acknowledged.
    "synchronous": "full",
    "foreign_keys": 1,
    # So that INSERT OR REPLACE fires the append-only triggers too.
    "recursive_triggers": 1,
    # Pages, 64 MB. Checkpoints are made beside the commits, see `checkpoints`; this is for when that was not enough.
    "wal_autocheckpoint": 16000,
}

# SQLite's primary result codes that mean "not now" or "not on this disk", rather than a mistake in our SQL.
# Busy, locked, out of memory, read-only, interrupted, I/O error, damaged, full, cannot be opened, locking protocol, not a database.
_UNAVAILABLE_CODES = {5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 26}


#: For a file that is taken not to change: it is only read, and nothing is made beside it.
AS_IT_LIES = "mode=ro&immutable=1"


class DatabaseProblem(Exception):
    """The database cannot be used as it is; the text is one line that says why and what to do."""


class SqliteFile(peewee.SqliteDatabase):
    """An SQLite database that knows its file, and how many seconds a lock is waited for."""

    def __init__(self, file_path: Path, patience_s: float, *args: Any, **kwargs: Any) -> None:
        self.file_path = file_path
        self.file_name = str(file_path)
        self.patience_s = patience_s
        super().__init__(*args, **kwargs)

    def execute_prepared(self, sql: str, parameters: Sequence[object]) -> Any:
        """Run a statement; returns its cursor. What Peewee does around one costs half as much again as a short one does."""
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            return self.connection().execute(sql, parameters)  # type: ignore[no-untyped-call]

    write_prepared = execute_prepared

    def execute_both_prepared(
        self, first: tuple[str, Sequence[object]], second: tuple[str, Sequence[object]]
    ) -> list[Any]:
        """Run two statements, given as SQL and values, one after the other; their cursors."""
        execute = self.connection().execute  # type: ignore[no-untyped-call]
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # missing from the stubs
            return [execute(*first), execute(*second)]


class _State(threading.local):
    """What this thread's connection was opened on: device and inode of the file."""

    file_id: tuple[int, int] | None = None


_state = _State()


def check_library(version: tuple[int, ...] | None = None) -> None:
    """Raises DatabaseProblem for an SQLite library that can lose commits (the WAL-reset race).

    Affected are 3.7.0 to 3.51.2, but for the fixed 3.50.7 and 3.44.6 and later patches of those two; see
    "the WAL-reset bug" in SQLite's own documentation of WAL mode.
    """
    version = version or library_version()
    fixed = (
        version >= (3, 51, 3)
        or (3, 50, 7) <= version < (3, 51)
        or (3, 44, 6) <= version < (3, 45)
        or version < (3, 7)
    )
    if not fixed:
        raise DatabaseProblem(
            f"SQLite {'.'.join(map(str, version))} can lose committed transactions (fixed in 3.51.3, 3.50.7 and 3.44.6): "
            "install the pinned requirements, whose pysqlite3 brings a fixed one."
        )


def library_version() -> tuple[int, ...]:
    """The version of the SQLite library that is used."""
    return tuple(sqlite3.sqlite_version_info)


def connect(target: Path | str, *, busy_timeout_s: float = 5.0, create: bool = False) -> None:
    """Make `db` stand for that SQLite file, or for the database of that postgresql:// URL.

    Nothing is opened yet; a missing file is made only with `create`: empty, and its owner's alone.
    """
    if db.obj is not None:
        disconnect()
    db.initialize(
        PostgresServer(target, busy_timeout_s)
        if isinstance(target, str)
        else _sqlite(target, busy_timeout_s)
    )
    if create and isinstance(target, Path) and not target.exists():
        # SQLite takes an empty file for a database without tables. One that it made itself would be its maker's.
        os.close(files.open_or_make(target))


def calls_at_once(target: Path | str) -> int | None:
    """How many calls that share a thread may be under way on that database; None for as many as come."""
    return SHARED_CONNECTIONS if isinstance(target, str) else None


def file_uri(path: Path, options: str) -> str:
    """The URI by which SQLite opens a file with these options, whatever is in the file's name."""
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
        # A deferred transaction that reads and then writes fails at once where another writer came between, whatever the time-out.
        lock_type="IMMEDIATE",
    )


@contextmanager
def elsewhere(path: Path, *, as_it_lies: bool = False) -> Iterator[None]:
    """Let `db` stand for another SQLite file inside.

    `as_it_lies` is for looking alone: the file is taken not to change, and nothing is made beside it.
    """
    here = db.obj
    close_connection()
    db.initialize(
        SqliteFile(path, 0.0, file_uri(path, AS_IT_LIES), uri=True)
        if as_it_lies
        else _sqlite(path, 5.0)
    )
    try:
        yield
    finally:
        close_connection()
        db.initialize(here)


def is_file() -> bool:
    """Whether the database is an SQLite file, and no server's."""
    return isinstance(db.obj, SqliteFile)


def label() -> str:
    """The database by its name: its file, or its URL without the password."""
    return db.obj.label if isinstance(db.obj, PostgresServer) else str(db.file_path)


def wal_size() -> int:
    """The size of SQLite's write-ahead log in bytes; 0 where there is none to be seen."""
    try:
        size: int = db.file_path.with_name(f"{db.file_path.name}-wal").stat().st_size
    except OSError:
        return 0
    return size


def open_connection() -> None:
    """Give this thread an open connection to the file that is there now.

    A connection is kept for the next request of the thread. One whose file was moved away or replaced is not: what it wrote
    would be lost with the old file; nor is one that PostgreSQL has let go of. Raises peewee.OperationalError where the
    database cannot be opened.
    """
    if isinstance(db.obj, PostgresServer):
        db.leave_parents_connections()
        if db.is_lost:
            close_connection()
        if db.is_closed():
            db.connect()
        return
    try:
        # By its name as text: it is asked for with every request, and a Path costs twice as much.
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
    """Close this thread's connection, if it has one; an error while closing leaves none either."""
    try:
        if not db.is_closed():
            db.close()
    except peewee.PeeweeException:
        log.warning("The database connection could not be closed cleanly.", exc_info=True)


def end_request() -> None:
    """Give a pooled connection back: the thread may never come again. SQLite's is the thread's own, and is kept."""
    if isinstance(db.obj, PostgresServer):
        close_connection()


def disconnect() -> None:
    """Close this thread's connection and those that wait in a pool."""
    close_connection()
    if isinstance(db.obj, PostgresServer):
        db.close_idle()


def roll_back() -> None:
    """Undo what is open. A full disk or an I/O error may have ended the transaction already; a connection that cannot is given up."""
    try:
        if not db.is_closed() and (
            isinstance(db.obj, PostgresServer) or db.connection().in_transaction
        ):
            db.rollback()
    except peewee.PeeweeException:
        log.warning("A rollback failed; the connection is given up.", exc_info=True)
        close_connection()


@contextmanager
def snapshot() -> Iterator[None]:
    """Reads inside see one moment of the database, however many queries they are; nothing is locked for writers."""
    open_connection()
    if isinstance(db.obj, PostgresServer):
        # A proof of a million reservations may take its time: it is in nobody's way.
        db.execute_sql(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0"
        )
    else:
        db.execute_sql("BEGIN DEFERRED")
    try:
        yield
    finally:
        roll_back()


def refusal_of(error: peewee.PeeweeException) -> RequestError | None:
    """The refusal for a database that is busy, full or down; None where the error is a mistake of ours."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorcode", None)
    if not (
        trouble(error)
        if code is None
        else (code & 0xFF) in _UNAVAILABLE_CODES or _is_without_tables(error)
    ):
        return None
    refusal = RequestError(
        Code.UNAVAILABLE,
        "The database is not available right now. Nothing was changed; please try again shortly.",
        retryAfter=RETRY_AFTER_S,
    )
    # For the log, and for whoever has the shell.
    refusal.__cause__ = error
    return refusal


def _is_without_tables(error: peewee.PeeweeException) -> bool:
    """Whether a query failed because another file stands where the database was, and has none of our tables."""
    try:
        return str(error).startswith("no such table") and not db.table_exists("SchemaVersion")
    except peewee.PeeweeException:
        return False
