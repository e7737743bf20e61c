"""Copies the database of either engine to one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from budget_sync.database.connection import db, snapshot, sqlite3
from budget_sync.database.engine import SQLITE_STATEMENTS
from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.database.schema import (
    FILLED_TABLES,
    column_names,
    schema_statements,
    schema_version,
    table_names,
)

#: Called with the copied and the total number of pages or rows.
Progress = Callable[[int, int], None]

# Copied at a time. 1000 pages are 4 MB.
_PAGES = 1000
_ROWS = 1000


@contextmanager
def copy_at(path: Path, consequence: str) -> Iterator[Any]:
    """A connection to the empty file `path`, to write a copy to.

    Raises DatabaseUnusableError if the copy fails, for example because the disk is full. Its text
    begins with `consequence`.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as target:
            yield target
    except (sqlite3.Error, psycopg.Error) as error:
        raise DatabaseUnusableError(
            f"{consequence}: cannot write the copy in {path.parent} "
            f"({' '.join(str(error).split())})."
        ) from error


def write_copy(path: Path, report_progress: Progress) -> None:
    """Write a consistent copy of the database to the empty file `path`, without blocking writers.

    Raises DatabaseUnusableError if the copy fails.
    """
    with copy_at(path, "No backup was created") as target:
        # An incomplete file is useless anyway, and the caller syncs the complete one.
        target.execute("PRAGMA synchronous = off")
        target.execute("PRAGMA journal_mode = off")
        with snapshot():
            if isinstance(db.obj, PostgresServer):
                write_rows(target, report_progress)
            else:
                # The first read fixes the snapshot. Outside a read transaction, SQLite would
                # restart the backup after every write of another connection.
                schema_version()
                db.connection().backup(
                    target,
                    pages=_PAGES,
                    progress=lambda _, left, total: report_progress(total - left, total),
                )
        # A single file, without a write-ahead log.
        target.execute("PRAGMA journal_mode = delete")


def write_rows(target: Any, report_progress: Progress) -> None:
    """Write all rows that the open PostgreSQL transaction sees to an empty SQLite database."""
    tables = ["SchemaVersion", *table_names()]
    total = sum(db.execute_sql(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0] for table in tables)
    target.execute("BEGIN")
    for statement in schema_statements():
        target.execute(statement)
    copied = 0
    for table in tables:
        names = column_names(target, table)
        quoted = ", ".join(f'"{name}"' for name in names)
        # Creating the tables has already filled some of them.
        verb = "INSERT OR IGNORE" if table in FILLED_TABLES else "INSERT"
        insert = f'{verb} INTO "{table}" ({quoted}) VALUES ({", ".join("?" * len(names))})'
        # A server-side cursor, because a large table does not fit into memory.
        with db.connection().cursor(name="backup") as source:
            source.execute(
                sql.SQL("SELECT {} FROM {}").format(
                    sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table)
                )
            )
            while rows := source.fetchmany(_ROWS):
                target.executemany(insert, rows)
                copied += len(rows)
                report_progress(copied, total)
    for statement in SQLITE_STATEMENTS:
        target.execute(statement)
    target.execute("COMMIT")
