"""Moving from the SQLite file to PostgreSQL: all rows, at one moment, into an empty database, all or none."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg import sql

from budget_sync.database.connection import DatabaseProblem, SqliteFile, db, snapshot, sqlite3
from budget_sync.database.engine import COUNTED_KEYS
from budget_sync.database.schema import SCHEMA_FILE, SCHEMA_VERSION

_CHUNK = 1000


def copy_to(url: str) -> dict[str, int]:
    """Copy everything to the PostgreSQL database of that URL; how many rows each table has there, counted there.

    Raises DatabaseProblem, with the target as it was, unless this is an SQLite file and the target is initialised and empty.
    """
    if not isinstance(db.obj, SqliteFile):
        raise DatabaseProblem("Only an SQLite database can be copied to PostgreSQL.")
    try:
        with psycopg.connect(url, options="-c TimeZone=UTC") as target, snapshot():
            _require_empty(target)
            copied = fill(target, db.connection())
            stored = {
                table: _scalar(
                    target, sql.SQL("SELECT COUNT(*) FROM {}").format(sql.Identifier(table))
                )
                for table in copied
            }
            if stored != copied:
                raise DatabaseProblem(
                    f"The copy is not what was copied: {stored} rows against {copied}. Nothing was kept."
                )
    except (psycopg.Error, sqlite3.Error) as error:
        raise DatabaseProblem(
            f"The copy failed, and nothing of it was kept: {' '.join(str(error).split())}."
        ) from error
    return stored


def fill(target: psycopg.Connection[Any], source: Any) -> dict[str, int]:
    """Copy every row of an SQLite connection's database into the empty tables of that transaction; how many each table got."""
    copied = {table: _copy(target, source, table) for table in tables()}
    for table, key in COUNTED_KEYS:
        _count_on(target, table, key)
    return copied


def columns(source: Any, table: str) -> list[str]:
    """A table's columns on an SQLite connection; those that the database generates are left out."""
    return [row[1] for row in source.execute(f'PRAGMA table_info("{table}")')]


def tables() -> list[str]:
    """All tables but the schema's version, each after those that it refers to."""
    tables: list[str] = re.findall(
        r'^CREATE TABLE "(\w+)"', SCHEMA_FILE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [table for table in tables if table != "SchemaVersion"]


def _require_empty(target: psycopg.Connection[Any]) -> None:
    if _scalar(target, sql.SQL("""SELECT to_regclass('"SchemaVersion"') IS NULL""")):
        raise DatabaseProblem(
            "The target has no tables yet: make them with `flask init-db`, with DATABASE_URL naming it."
        )
    if _scalar(target, sql.SQL('SELECT MAX("version") FROM "SchemaVersion"')) != SCHEMA_VERSION:
        raise DatabaseProblem(
            "The target is of another schema version: run `flask upgrade-db`, with DATABASE_URL naming it."
        )
    for table in tables():
        # Nobody writes there meanwhile.
        target.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(table)))
        if _scalar(
            target, sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(sql.Identifier(table))
        ):
            raise DatabaseProblem(f"The target is not empty: there are rows in {table} already.")


def _copy(target: psycopg.Connection[Any], source: Any, table: str) -> int:
    names = columns(source, table)
    found = source.execute(
        'SELECT {} FROM "{}"'.format(", ".join(f'"{name}"' for name in names), table)
    )
    copied = 0
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with target.cursor() as cursor, cursor.copy(into) as copy:
        while rows := found.fetchmany(_CHUNK):
            for row in rows:
                copy.write_row(row)
            copied += len(rows)
    return copied


def _count_on(target: psycopg.Connection[Any], table: str, key: str) -> None:
    """Let a key count on from the highest there is."""
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
