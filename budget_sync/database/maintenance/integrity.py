"""Whether a database is whole: SQLite's file undamaged, and every table, index and trigger there that the program made.

What an operator added beside them is no matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import peewee

from budget_sync.database.connection import DatabaseProblem, db, open_connection, sqlite3
from budget_sync.database.engine import engine_statements
from budget_sync.database.maintenance.migrate import tables
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.database.schema import SCHEMA_FILE, schema_version, statements

_NAMED = re.compile(r'CREATE (?:UNIQUE )?(TABLE|INDEX|TRIGGER) "(\w+)"')

# What is seen without its schema's name, which may be any; a trigger that is switched off is as good as none.
_POSTGRESQL_NAMES = """
    SELECT CASE WHEN relkind IN ('i', 'I') THEN 'index' ELSE 'table' END, relname
    FROM pg_class WHERE relkind IN ('r', 'p', 'i', 'I') AND pg_table_is_visible(oid)
    UNION ALL SELECT 'trigger', tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') AND pg_table_is_visible(tgrelid)
"""


def damage() -> str | None:
    """What SQLite finds damaged in the file that is connected, in one line; None where it finds nothing.

    Not by its quick check, which does not compare indexes with their tables: a proof that reads the one misses what changed in the other.
    """
    open_connection()
    try:
        (found,) = db.execute_sql("PRAGMA integrity_check(1)").fetchone()
    except peewee.PeeweeException as error:
        found = str(error)
    return None if found == "ok" else " ".join(found.split())


def require_sound() -> None:
    """Raises DatabaseProblem unless the SQLite file that is connected is undamaged and ours, of whatever version."""
    try:
        found, version, orphans = (
            damage(),
            schema_version(),
            db.execute_sql("PRAGMA foreign_key_check").fetchall(),
        )
    except peewee.PeeweeException as error:
        found = " ".join(str(error).split())
    if found:
        raise DatabaseProblem(f"it is no database, or a damaged one: {found}")
    if version is None:
        raise DatabaseProblem("it is a database, but not of this program")
    if orphans:
        raise DatabaseProblem(
            f"it is damaged: a row of {orphans[0][0]} refers to a row of {orphans[0][2]} that is not there"
        )


def require_whole_schema() -> None:
    """Raises DatabaseProblem where a table, index or trigger of the newest schema is missing; on SQLite also a column, or where one was changed."""
    open_connection()
    made = statements(SCHEMA_FILE.read_text(encoding="utf-8")) + engine_statements(db.obj)
    try:
        missing = _missing_by_name(made) if isinstance(db.obj, PostgresServer) else _missing(made)
    except sqlite3.Error as error:
        raise DatabaseProblem(
            f"its schema cannot be read: {' '.join(str(error).split())}"
        ) from error
    if missing:
        # A table takes its columns and indexes with it: it is named before them.
        first = min(missing, key=lambda name: (not name.startswith("table "), name))
        raise DatabaseProblem(f"its schema is not whole: {first} is missing or changed")


def _missing(made: Sequence[str]) -> set[str]:
    with closing(sqlite3.connect(":memory:")) as fresh:
        for statement in made:
            fresh.execute(statement)
        return {name for name, _ in _things(fresh) - _things(db.connection())}


def _things(connection: Any) -> set[tuple[str, str]]:
    """What a schema consists of, named. A table's own text is left out: an upgrade adds a column elsewhere than a fresh table has it."""
    things = {
        # SQLite takes a text that damage made bytes of.
        (f'{kind} "{name}"', "" if kind == "table" else re.sub(r"\s+", " ", str(text or "")))
        for kind, name, text in connection.execute(
            "SELECT type, name, sql FROM sqlite_master"
        ).fetchall()
    }
    for table in tables():
        things |= {
            (f'column "{name}" of "{table}"', f"{kind} {not_null} {hidden}")
            for _, name, kind, not_null, _, _, hidden in connection.execute(
                f'PRAGMA table_xinfo("{table}")'
            ).fetchall()
        }
    return things


def _missing_by_name(made: Sequence[str]) -> set[str]:
    wanted = {
        f'{found[1].lower()} "{found[2]}"'
        for statement in made
        if (found := _NAMED.match(statement.strip()))
    }
    return wanted - {
        f'{kind} "{name}"' for kind, name in db.execute_sql(_POSTGRESQL_NAMES).fetchall()
    }
