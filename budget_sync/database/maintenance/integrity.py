"""Integrity checks: the SQLite file is undamaged, and all tables, indexes and triggers exist.

Tables and indexes that an operator added are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import peewee

from budget_sync.database.connection import db, open_connection, sqlite3
from budget_sync.database.engine import engine_statements
from budget_sync.database.errors import DatabaseUnusableError
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.database.schema import (
    audit_actions,
    schema_statements,
    schema_version,
    table_names,
)

_CREATE = re.compile(r'CREATE (?:UNIQUE )?(TABLE|INDEX|TRIGGER) "(\w+)"')

# Objects that are visible without a schema name, because the schema may have any name. A disabled
# trigger counts as missing.
_POSTGRESQL_NAMES = """
    SELECT CASE WHEN relkind IN ('i', 'I') THEN 'index' ELSE 'table' END, relname
    FROM pg_class WHERE relkind IN ('r', 'p', 'i', 'I') AND pg_table_is_visible(oid)
    UNION ALL SELECT 'trigger', tgname
    FROM pg_trigger WHERE tgenabled IN ('O', 'A') AND pg_table_is_visible(tgrelid)
"""


def find_damage() -> str | None:
    """The first error that SQLite finds in the connected file, in one line; None if it has none.

    It runs integrity_check, not quick_check, which does not compare indexes with their tables: a
    consistency check that reads only one of the two would miss a change in the other.
    """
    open_connection()
    try:
        (found,) = db.execute_sql("PRAGMA integrity_check(1)").fetchone()
    except peewee.PeeweeException as error:
        found = str(error)
    return None if found == "ok" else " ".join(found.split())


def require_intact_file() -> None:
    """Check that the connected SQLite file is undamaged and of this program.

    Any schema version is accepted. Raises DatabaseUnusableError otherwise.
    """
    try:
        found = find_damage()
        version = schema_version()
        orphans = db.execute_sql("PRAGMA foreign_key_check").fetchall()
    except peewee.PeeweeException as error:
        found = " ".join(str(error).split())
    if found:
        raise DatabaseUnusableError(f"it is not a database, or it is damaged: {found}")
    if version is None:
        raise DatabaseUnusableError("it is a database, but not of this program")
    if orphans:
        raise DatabaseUnusableError(
            f"it is damaged: a row of {orphans[0][0]} refers to a row of {orphans[0][2]} that is "
            "not there"
        )


def require_complete_schema() -> None:
    """Raises DatabaseUnusableError if a table, index or trigger of the newest schema is missing.

    Also if an audit action is missing, because no row of that action can then be written; and on
    SQLite if a column is missing, or if a column, index or trigger was changed.
    """
    open_connection()
    expected = schema_statements() + engine_statements(db.obj)
    try:
        missing = (
            _missing_on_postgresql(expected)
            if isinstance(db.obj, PostgresServer)
            else _missing_on_sqlite(expected)
        )
        missing = missing or _missing_actions()
    except (sqlite3.Error, peewee.PeeweeException) as error:
        raise DatabaseUnusableError(
            f"its schema cannot be read: {' '.join(str(error).split())}"
        ) from error
    if missing:
        # A missing table also lacks its columns and indexes, so tables are named first.
        first = min(missing, key=lambda name: (not name.startswith("table "), name))
        raise DatabaseUnusableError(f"its schema is incomplete: {first} is missing or changed")


def _missing_actions() -> set[str]:
    stored = {row[0] for row in db.execute_sql('SELECT "action" FROM "AuditAction"').fetchall()}
    return {f'audit action "{action}"' for action in audit_actions() if action not in stored}


def _missing_on_sqlite(expected: Sequence[str]) -> set[str]:
    with closing(sqlite3.connect(":memory:")) as fresh:
        for statement in expected:
            fresh.execute(statement)
        return {name for name, _ in _schema_objects(fresh) - _schema_objects(db.connection())}


def _schema_objects(connection: Any) -> set[tuple[str, str]]:
    """The tables, columns, indexes and triggers of a schema: (name, definition).

    Tables have no definition here, because an upgrade adds columns in another place than in a fresh
    table.
    """
    objects = {
        # In a damaged file, SQLite may return bytes instead of text.
        (f'{kind} "{name}"', "" if kind == "table" else re.sub(r"\s+", " ", str(text or "")))
        for kind, name, text in connection.execute(
            "SELECT type, name, sql FROM sqlite_master"
        ).fetchall()
    }
    for table in table_names():
        objects |= {
            (f'column "{name}" of "{table}"', f"{kind} {not_null} {hidden}")
            for _, name, kind, not_null, _, _, hidden in connection.execute(
                f'PRAGMA table_xinfo("{table}")'
            ).fetchall()
        }
    return objects


def _missing_on_postgresql(expected: Sequence[str]) -> set[str]:
    wanted = {
        f'{found[1].lower()} "{found[2]}"'
        for statement in expected
        if (found := _CREATE.match(statement.strip()))
    }
    return wanted - {
        f'{kind} "{name}"' for kind, name in db.execute_sql(_POSTGRESQL_NAMES).fetchall()
    }
