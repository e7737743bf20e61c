"""A database as one SQLite file, whatever engine it is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from budget_sync.database.connection import DatabaseProblem, db, snapshot, sqlite3
from budget_sync.database.engine import SQLITE_STATEMENTS
from budget_sync.database.maintenance.migrate import columns, tables
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.database.schema import SCHEMA_FILE, schema_version, statements

#: Told how much of how much is copied.
Tell = Callable[[int, int], None]

# Copied at a time: 4 MB of pages, and rows.
_PAGES = 1000
_ROWS = 1000


@contextmanager
def copy_at(path: Path, otherwise: str) -> Iterator[Any]:
    """A connection to the empty file there, for a copy to be made in. Raises DatabaseProblem, which begins with what is so `otherwise`, as on a full disk."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as target:
            yield target
    except (sqlite3.Error, psycopg.Error) as error:
        raise DatabaseProblem(
            f"{otherwise}: the copy could not be made in {path.parent} ({' '.join(str(error).split())})."
        ) from error


def write_copy(path: Path, tell: Tell) -> None:
    """Write everything that is in the database, at one moment, to the empty file there. Nobody who writes meanwhile has to wait.

    Raises DatabaseProblem where there is no copy.
    """
    with copy_at(path, "There is no backup") as target:
        # The file is of no use before it is whole, and then the caller syncs it.
        target.execute("PRAGMA synchronous = off")
        target.execute("PRAGMA journal_mode = off")
        with snapshot():
            if isinstance(db.obj, PostgresServer):
                write_rows(target, tell)
            else:
                # With the first read the moment is chosen: on a transaction of its own, the copy begins anew whenever somebody writes.
                schema_version()
                db.connection().backup(
                    target, pages=_PAGES, progress=lambda _, left, total: tell(total - left, total)
                )
        # One file, without a log beside it.
        target.execute("PRAGMA journal_mode = delete")


def write_rows(target: Any, tell: Tell) -> None:
    """Write all rows that the open transaction of PostgreSQL sees to an empty SQLite database."""
    wanted = ["SchemaVersion", *tables()]
    total = sum(db.execute_sql(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0] for table in wanted)
    target.execute("BEGIN")
    for statement in statements(SCHEMA_FILE.read_text(encoding="utf-8")):
        target.execute(statement)
    done = 0
    for table in wanted:
        names = columns(target, table)
        listed = ", ".join(f'"{name}"' for name in names)
        insert = f'INSERT INTO "{table}" ({listed}) VALUES ({", ".join("?" * len(names))})'
        # A cursor of the server's own: the rows of a large table do not all fit in here.
        with db.connection().cursor(name="backup") as source:
            source.execute(
                sql.SQL("SELECT {} FROM {}").format(
                    sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table)
                )
            )
            while rows := source.fetchmany(_ROWS):
                target.executemany(insert, rows)
                done += len(rows)
                tell(done, total)
    for statement in SQLITE_STATEMENTS:
        target.execute(statement)
    target.execute("COMMIT")
