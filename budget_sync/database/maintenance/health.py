"""What can be read off a database about its health: is it durable, is the audit log append-only, how far is its clock; and a place to try things."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import peewee
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from budget_sync.database.connection import (
    DatabaseProblem,
    db,
    library_version,
    open_connection,
    roll_back,
)
from budget_sync.database.locks import process_lock
from budget_sync.database.postgres.pool import PostgresServer
from budget_sync.domain import clock

# What PostgreSQL must not be told to be faster with, and SQLite must be set to.
_POSTGRESQL_SETTINGS = {
    "synchronous_commit": ("on", "remote_write", "remote_apply", "local"),
    "fsync": ("on",),
    "full_page_writes": ("on",),
}
_SQLITE_SETTINGS = {"synchronous": (2, 3), "journal_mode": ("wal",), "foreign_keys": (1,)}


def engine_version() -> str:
    """The engine and its version, such as "SQLite 3.53.4"."""
    if isinstance(db.obj, PostgresServer):
        return f"PostgreSQL {_setting('server_version')}"
    return f"SQLite {'.'.join(map(str, library_version()))}"


def durability() -> tuple[list[str], list[str]]:
    """The settings that make a commit last, read back as "name = value"; and those of them that do not."""
    wanted: dict[str, tuple[Any, ...]] = (
        _POSTGRESQL_SETTINGS if isinstance(db.obj, PostgresServer) else _SQLITE_SETTINGS
    )
    found = {name: _setting(name) for name in wanted}
    said = {name: f"{name} = {value}" for name, value in found.items()}
    return list(said.values()), [
        said[name] for name, value in found.items() if value not in wanted[name]
    ]


def clock_offset_s() -> float:
    """How many seconds the database server's clock is ahead of ours; a file has none of its own."""
    if not isinstance(db.obj, PostgresServer):
        return 0.0
    open_connection()
    (theirs,) = db.execute_sql("SELECT EXTRACT(EPOCH FROM clock_timestamp())").fetchone()
    return float(theirs) - time.time()


def prove_append_only() -> None:
    """Write an audit row, try to change and to delete it, and undo all of it. Raises DatabaseProblem where that is not as it should be."""
    with nullcontext() if isinstance(db.obj, PostgresServer) else process_lock():
        for attempt in ('UPDATE "AuditLog" SET "reason" = NULL', 'DELETE FROM "AuditLog"'):
            open_connection()
            db.begin()
            try:
                _write_audit_row()
                db.execute_sql(f"""{attempt} WHERE "id" = (SELECT MAX("id") FROM "AuditLog")""")
            except peewee.IntegrityError:
                continue
            except peewee.PeeweeException as error:
                raise DatabaseProblem(
                    f"a row cannot be written: {' '.join(str(error).split())}"
                ) from error
            finally:
                roll_back()
            raise DatabaseProblem(
                f"its rows can be changed ({attempt.split()[0]}): the triggers that refuse it are missing"
            )


def _write_audit_row() -> None:
    now = clock.to_text(clock.now())
    row = f"""INSERT INTO "AuditLog" ("action", "principal", "changedBy", "createdAt") VALUES ('PRUNE_CHECKS', 'doctor', 'doctor', '{now}')"""
    try:
        db.execute_sql(row)
    except peewee.IntegrityError as error:
        raise DatabaseProblem(f"a row cannot be written: {' '.join(str(error).split())}") from error


@contextmanager
def trial_schema(url: str) -> Iterator[str]:
    """The connection string of an empty schema of its own in the PostgreSQL database of that URL; dropped at the end.

    Raises DatabaseProblem where the user may not make one.
    """
    name = f"budget_sync_trial_{secrets.token_hex(4)}"
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise DatabaseProblem(
            f"no schema can be made to try in: {' '.join(str(error).split())}"
        ) from error
    try:
        parts: dict[str, Any] = dict(conninfo_to_dict(url))
        yield make_conninfo(
            **parts | {"options": f"{parts.get('options', '')} -c search_path={name}".strip()}
        )
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def _setting(name: str) -> Any:
    open_connection()
    return db.execute_sql(
        f"SHOW {name}" if isinstance(db.obj, PostgresServer) else f"PRAGMA {name}"
    ).fetchone()[0]
