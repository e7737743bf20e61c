"""Migrates from SQLite to PostgreSQL: copies all rows in one transaction.

No other process writes to the SQLite file during the copy, and the file accepts no writes after it:
a movement that only the old database has would be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from psycopg import sql

from budget_sync.database.connection import SqliteFile, close_connection, db, file_uri, sqlite3
from budget_sync.database.engine import GENERATED_KEYS
from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.locks import process_lock, require_writable
from budget_sync.database.postgres.pool import connect_once, label_of
from budget_sync.database.schema import FILLED_TABLES, SCHEMA_VERSION, column_names, table_names
from budget_sync.database.sqlite.moved import accept_writes, reject_writes

_CHUNK_ROWS = 1000


def copy_to(url: str, verify: Callable[[], None]) -> dict[str, int]:
    """Copy all rows to the PostgreSQL database of `url`; return each table's row count there.

    Then `verify` checks the copy, and raises an error if it is wrong. After that, the SQLite file
    accepts no more writes. Writers of other processes wait until the end.

    Raises DatabaseUnusableError, and leaves the target unchanged, unless the source is an SQLite
    file and the target has the current schema and no rows.
    """
    _require_sqlite()
    require_writable()
    with _writers_stopped() as source:
        copied = _copy_all(url, source)
        verify()
        try:
            reject_writes(source, table_names(), label_of(url))
            source.execute("COMMIT")
        except sqlite3.Error as error:
            raise DatabaseUnusableError(
                "Everything was copied, but the SQLite file could not be marked as moved: "
                f"{' '.join(str(error).split())}. Make sure that no server uses it any more."
            ) from error
    return copied


def undo_copy() -> bool:
    """Let the SQLite file accept writes again; returns False if it does already."""
    _require_sqlite()
    with _writers_stopped() as source:
        was_marked = accept_writes(source)
        source.execute("COMMIT")
    return was_marked


def _require_sqlite() -> None:
    if not isinstance(db.obj, SqliteFile):
        raise DatabaseUnusableError(
            "Only an SQLite database can be copied to PostgreSQL. "
            "Set DATABASE_URL to the SQLite file."
        )


@contextmanager
def _writers_stopped() -> Iterator[Any]:
    """A connection to the SQLite file in a transaction that keeps all writers waiting.

    It is independent of `db`. Without a COMMIT, its changes are undone.
    """
    close_connection()
    uri = file_uri(db.file_path, "mode=rw")
    with (
        process_lock(),
        closing(
            sqlite3.connect(uri, uri=True, isolation_level=None, timeout=db.busy_timeout_s)
        ) as connection,
    ):
        try:
            connection.execute("PRAGMA synchronous = full")
            # The lock is only for this program. This keeps other programs from writing.
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise DatabaseUnusableError(
                f"The database {db.file_path} cannot be locked, and nothing was changed: "
                f"{' '.join(str(error).split())}."
            ) from error
        yield connection


def _copy_all(url: str, source: Any) -> dict[str, int]:
    """Copy all rows in one transaction of the target."""
    try:
        with connect_once(url) as target:
            _require_empty(target)
            copied = copy_rows(target, source)
            stored = {
                table: _scalar(
                    target, sql.SQL("SELECT COUNT(*) FROM {}").format(sql.Identifier(table))
                )
                for table in copied
            }
            if stored != copied:
                raise DatabaseUnusableError(
                    f"The copy has {stored} rows instead of {copied}. Nothing was kept; try again."
                )
    except (psycopg.Error, sqlite3.Error) as error:
        raise DatabaseUnusableError(
            f"The copy failed and nothing was kept: {' '.join(str(error).split())}."
        ) from error
    return stored


def copy_rows(
    target: psycopg.Connection[Any], source: Any, tables: Sequence[str] | None = None
) -> dict[str, int]:
    """Copy all rows of an SQLite connection to empty tables; return each table's number of rows.

    Copies all tables of the newest schema, or only `tables`. Tables that the schema fills keep
    their rows and get those that they lack. Runs in the open transaction of `target`.
    """
    copied = {
        table: (_add_missing if table in FILLED_TABLES else _copy_table)(target, source, table)
        for table in tables or table_names()
    }
    for table, key in GENERATED_KEYS:
        if table in copied:
            _set_sequence(target, table, key)
    return copied


def _require_empty(target: psycopg.Connection[Any]) -> None:
    if _scalar(target, sql.SQL("""SELECT to_regclass('"SchemaVersion"') IS NULL""")):
        raise DatabaseUnusableError(
            "The target has no tables yet. Create them: run `flask init-db` with DATABASE_URL set "
            "to the target."
        )
    if _scalar(target, sql.SQL('SELECT MAX("version") FROM "SchemaVersion"')) != SCHEMA_VERSION:
        raise DatabaseUnusableError(
            "The target has another schema version. Run `flask upgrade-db` with DATABASE_URL set "
            "to the target."
        )
    for table in table_names():
        # Prevents other connections from writing to the target during the copy.
        target.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(table)))
        if table not in FILLED_TABLES and _scalar(
            target, sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(sql.Identifier(table))
        ):
            raise DatabaseUnusableError(
                f"The target is not empty: {table} has rows. Create a new database for the copy."
            )


def _copy_table(target: psycopg.Connection[Any], source: Any, table: str) -> int:
    names = column_names(source, table)
    selected = source.execute(
        'SELECT {} FROM "{}"'.format(", ".join(f'"{name}"' for name in names), table)
    )
    copied = 0
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with target.cursor() as cursor, cursor.copy(statement) as copy:
        while rows := selected.fetchmany(_CHUNK_ROWS):
            for row in rows:
                copy.write_row(row)
            copied += len(rows)
    return copied


def _add_missing(target: psycopg.Connection[Any], source: Any, table: str) -> int:
    names = column_names(source, table)
    rows = source.execute(
        'SELECT {} FROM "{}"'.format(", ".join(f'"{name}"' for name in names), table)
    ).fetchall()
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(sql.Placeholder() * len(names)),
    )
    with target.cursor() as cursor:
        cursor.executemany(statement, rows)
    return len(rows)


def _set_sequence(target: psycopg.Connection[Any], table: str, key: str) -> None:
    """Let the generated key continue after the highest one."""
    statement = sql.SQL(
        "SELECT setval(pg_get_serial_sequence({}, {}), COALESCE(MAX({}), 0) + 1, FALSE) FROM {}"
    )
    target.execute(
        statement.format(
            sql.Literal(f'"{table}"'), sql.Literal(key), sql.Identifier(key), sql.Identifier(table)
        )
    )


def _scalar(target: psycopg.Connection[Any], statement: sql.SQL | sql.Composed) -> Any:
    row = target.execute(statement).fetchone()
    return row and row[0]
